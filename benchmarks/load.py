"""Senders that post leads at a constant rate."""

import json
import math
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import requests

from tests.background import running_threads


def lead(number: int) -> bytes:
    """Return a request body with a valid lead. Its e-mail address is unique, so it is no duplicate."""
    payload: dict[str, Any] = {
        "email": f"{uuid.uuid4().hex}-{number}@example.com",
        "phone": "+49123456789",
        "zipcode": "66123",
        "house": {"is_owner": True},
        "solar_energy_consumption": "5000",
        "solar_offer_type": "Kaufen",
    }
    return json.dumps(payload).encode()


@dataclass
class Load:
    """The responses that the senders got.

    :param statuses: Number of responses with each status. 0: the connection broke.
    :param accepted: When each accepted lead was answered, by time.monotonic(), by its correlation id.
    """

    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)

    def add(self, response: requests.Response | None, seconds: float) -> None:
        """Add a response, or None for a broken connection."""
        status = response.status_code if response is not None else 0
        self.milliseconds.append(seconds * 1000)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if response is not None and status == 200:
            self.accepted[response.json()["correlation_id"]] = time.monotonic()

    def percentile(self, share: float) -> float:
        """Return the number of milliseconds within which a share of the responses arrived."""
        return percentile(self.milliseconds, share)


def percentile(values: Collection[float], share: float) -> float:
    """Return the value that a share of the values does not exceed, NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def steady_load(*, port: int, senders: int, every: float) -> Iterator[Load]:
    """Post with a number of senders while the block runs, each of them a lead every so many seconds.

    Each sender has a session of the requests library, as most real senders do. A session keeps its connection open and
    checks it before it sends the next lead.
    """
    load, numbers, lock = Load(), count(), threading.Lock()
    began = time.monotonic()

    def send(over: threading.Event) -> None:
        due = began + next(numbers) * every / senders
        with requests.Session() as session:
            while not over.wait(max(0.0, due - time.monotonic())):
                due = max(due + every, time.monotonic())
                response, took = _post(session, port, lead(next(numbers)))
                with lock:
                    load.add(response, took)

    with running_threads(send, count=senders):
        yield load


def _post(session: requests.Session, port: int, body: bytes) -> tuple[requests.Response | None, float]:
    """Return the response, None when the connection broke, and its duration in seconds."""
    began = time.monotonic()
    try:
        response = session.post(f"http://127.0.0.1:{port}/webhooks/leads", data=body, timeout=10)
    except requests.RequestException:
        response = None
    return response, time.monotonic() - began
