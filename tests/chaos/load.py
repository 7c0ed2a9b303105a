"""Post leads as senders do: repeat each lead unchanged until the response is 200."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import requests

from tests.e2e.gateway import Gateway

#: Maximum number of senders that wait for a response.
_SENDERS = 64
#: Minimum and maximum number of seconds between a failure and the next post.
_RETRY_AFTER = (0.2, 1.0)
#: Percentage of leads for each scenario.
_SHARES = {"deliverable": 88, "refused": 4, "rejected": 4, "incomplete": 4}


class Scenario(StrEnum):
    """The expected result of a lead, whatever is killed."""

    DELIVERABLE = "deliverable"
    REFUSED = "refused"
    """The customer responds with 422."""
    REJECTED = "rejected"
    """The zipcode is outside the accepted area."""
    INCOMPLETE = "incomplete"
    """The phone number is missing."""


@dataclass(frozen=True)
class Response:
    """A response at a time (Unix time). Status 0 means that the connection broke and the result is unknown."""

    at: float
    status: int
    lead_id: int | None = None
    duplicate: bool = False


@dataclass
class Posted:
    """One lead and all responses to its posts."""

    scenario: Scenario
    payload: dict[str, Any]
    began: float
    responses: list[Response] = field(default_factory=list)

    @property
    def accepted(self) -> Response | None:
        """Return the response after which the sender stops posting."""
        return next((response for response in self.responses if response.status == 200), None)


def make_lead(number: int, dice: random.Random) -> tuple[Scenario, dict[str, Any]]:
    """Return a unique lead and its scenario."""
    scenario = Scenario(dice.choices(list(_SHARES), weights=list(_SHARES.values()))[0])
    payload: dict[str, Any] = {
        "email": f"lead{number}@example.com",
        "phone": "+49309999422" if scenario is Scenario.REFUSED else "+49123456789",
        "zipcode": "12345" if scenario is Scenario.REJECTED else "66123",
        "house": {"is_owner": True},
        "solar_energy_consumption": str(dice.randrange(1000, 9000)),
    }
    if scenario is Scenario.INCOMPLETE:
        del payload["phone"]
    return scenario, payload


class Load:
    """Post leads at a fixed rate."""

    def __init__(self, gateway: Gateway, *, seed: int, per_minute: float) -> None:
        self.posted: list[Posted] = []
        self._gateway = gateway
        self._dice = random.Random(seed)
        self._pause = 60 / per_minute
        self._stop = threading.Event()
        self._running: list[Future[None]] = []

    @contextmanager
    def running(self, timeout: float) -> Iterator[None]:
        """Post leads while the block runs, then wait up to `timeout` seconds for the last senders."""
        end_of_load = threading.Event()
        with ThreadPoolExecutor(_SENDERS) as senders:
            poster = threading.Thread(target=self._post_leads, args=(senders, end_of_load))
            poster.start()
            try:
                yield
            finally:
                end_of_load.set()
                poster.join()
                wait(self._running, timeout)
                self._stop.set()
        for sender in self._running:
            sender.result()

    def _post_leads(self, senders: ThreadPoolExecutor, end_of_load: threading.Event) -> None:
        due = time.monotonic() + self._pause
        while not end_of_load.wait(max(0.0, due - time.monotonic())):
            scenario, payload = make_lead(len(self.posted) + 1, self._dice)
            posted = Posted(scenario, payload, began=time.time())
            self.posted.append(posted)
            self._running.append(senders.submit(self._send, posted))
            due += self._pause

    def _send(self, posted: Posted) -> None:
        while posted.accepted is None and not self._stop.is_set():
            posted.responses.append(self._post(posted.payload))
            if posted.responses[-1].status not in (0, 200, 500, 503):
                return  # a defect, which the audit reports
            if posted.accepted is None:
                self._stop.wait(random.uniform(*_RETRY_AFTER))

    def _post(self, payload: dict[str, Any]) -> Response:
        try:
            answer = self._gateway.post(payload)
            body = answer.json() if answer.status_code == 200 else {}
        except requests.RequestException:
            return Response(time.time(), 0)
        return Response(time.time(), answer.status_code, body.get("lead_id"), body.get("duplicate", False))
