"""Senders that post leads, each the next one when the last one was answered."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
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
    """The responses that the senders got: their duration and how many had each status. 0: the connection broke."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Return the number of responses per second."""
        return len(self.milliseconds) / self.seconds

    def percentile(self, share: float) -> float:
        """Return the number of milliseconds within which a share of the responses arrived."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def post_for(seconds: float, *, port: int, senders: int) -> Load:
    """Post with a number of senders for a number of seconds. Each sender keeps its connection open."""
    load, numbers, lock = Load(), count(), threading.Lock()
    ends = time.monotonic() + seconds

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while time.monotonic() < ends:
            body = lead(next(numbers))
            began = time.perf_counter()
            connection.request("POST", "/webhooks/leads", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            took = (time.perf_counter() - began) * 1000
            with lock:
                load.milliseconds.append(took)
                load.statuses[response.status] = load.statuses.get(response.status, 0) + 1
        connection.close()

    began = time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.monotonic() - began
    return load


@contextmanager
def steady_load(*, port: int, senders: int, pause: float) -> Iterator[Load]:
    """Post with a number of senders while the block runs, with a pause in seconds after each response.

    Each sender has a session of the requests library, as most real senders do. A session keeps its connection open and
    checks it before it sends the next lead.
    """
    load, numbers, lock = Load(), count(), threading.Lock()

    def send(over: threading.Event) -> None:
        with requests.Session() as session:
            while not over.wait(pause):
                began = time.perf_counter()
                try:
                    url = f"http://127.0.0.1:{port}/webhooks/leads"
                    status = session.post(url, data=lead(next(numbers)), timeout=10).status_code
                except requests.RequestException:
                    status = 0
                with lock:
                    load.milliseconds.append((time.perf_counter() - began) * 1000)
                    load.statuses[status] = load.statuses.get(status, 0) + 1

    with running_threads(send, count=senders):
        yield load
