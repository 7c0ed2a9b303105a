"""Senders as they are: each lead is posted again, unchanged, until it is answered 200."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import requests

from tests.e2e.gateway import Gateway

#: A sender that waits for an answer holds one.
_SENDERS = 64
#: Seconds between a failure and the next post: at least, and at most.
_AGAIN = (0.2, 1.0)
#: Of a hundred leads.
_SHARES = {"deliverable": 88, "refused": 4, "rejected": 4, "incomplete": 4}


class Scenario(StrEnum):
    """What has to become of a lead, whatever is killed."""

    DELIVERABLE = "deliverable"
    REFUSED = "refused"
    """The customer answers 422."""
    REJECTED = "rejected"
    """Not in the area that is served."""
    INCOMPLETE = "incomplete"
    """Without a telephone number."""


@dataclass(frozen=True)
class Told:
    """What a sender was told at a moment (Unix time); status 0: the connection broke, so that it cannot know."""

    at: float
    status: int
    lead_id: int | None = None
    duplicate: bool = False


@dataclass
class Posted:
    """One lead, and all that its sender was told."""

    scenario: Scenario
    payload: dict[str, Any]
    began: float
    told: list[Told] = field(default_factory=list)

    @property
    def accepted(self) -> Told | None:
        """The answer after which the sender need not care any more."""
        return next((told for told in self.told if told.status == 200), None)


def make_lead(number: int, dice: random.Random) -> tuple[Scenario, dict[str, Any]]:
    """Return a lead that nobody else has, and what has to become of it."""
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
    """Posts leads at a rate, whatever becomes of those before."""

    def __init__(self, gateway: Gateway, *, seed: int, per_minute: float) -> None:
        self.posted: list[Posted] = []
        self._gateway = gateway
        self._dice = random.Random(seed)
        self._pause = 60 / per_minute
        self._over = threading.Event()
        self._under_way: list[Future[None]] = []

    def counts(self) -> Counter[str]:
        """Count what was accepted up to now, and what was posted."""
        posted = list(self.posted)
        return Counter(posted=len(posted), accepted=sum(one.accepted is not None for one in posted))

    @contextmanager
    def running(self, timeout: float) -> Iterator[None]:
        """Post while the block runs; after it wait for the last senders, so many seconds at most."""
        over = threading.Event()
        with ThreadPoolExecutor(_SENDERS) as senders:
            clerk = threading.Thread(target=self._post_on, args=(senders, over))
            clerk.start()
            try:
                yield
            finally:
                over.set()
                clerk.join()
                wait(self._under_way, timeout)
                self._over.set()
        for sender in self._under_way:
            sender.result()

    def _post_on(self, senders: ThreadPoolExecutor, over: threading.Event) -> None:
        due = time.monotonic() + self._pause
        while not over.wait(max(0.0, due - time.monotonic())):
            scenario, payload = make_lead(len(self.posted) + 1, self._dice)
            posted = Posted(scenario, payload, began=time.time())
            self.posted.append(posted)
            self._under_way.append(senders.submit(self._send, posted))
            due += self._pause

    def _send(self, posted: Posted) -> None:
        while posted.accepted is None and not self._over.is_set():
            posted.told.append(self._post(posted.payload))
            if posted.told[-1].status not in (0, 200, 500, 503):
                return  # the sender would have to mend it; the audit says so
            if posted.accepted is None:
                self._over.wait(random.uniform(*_AGAIN))

    def _post(self, payload: dict[str, Any]) -> Told:
        try:
            answer = self._gateway.post(payload)
            body = answer.json() if answer.status_code == 200 else {}
        except requests.RequestException:
            return Told(time.time(), 0)
        return Told(time.time(), answer.status_code, body.get("lead_id"), body.get("duplicate", False))
