"""Webhook senders: they post one lead after another and keep what they were told."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from tests.e2e.gateway import Gateway
from tests.make import payload
from tests.meanwhile import going_on


@dataclass(frozen=True)
class Told:
    """What a sender was told, and after how many seconds; status 0: the connection broke."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def lead_id(self) -> int:
        return int(self.body["lead_id"])


def post(gateway: Gateway, *, session: requests.Session | None = None, **headers: str) -> Told:
    """Post one new lead, on a connection of its own or on that of a session."""
    started = time.monotonic()
    try:
        answer = gateway.post(payload(), session=session, **headers)
    except requests.RequestException:
        return Told(0, {}, time.monotonic() - started)
    return Told(answer.status_code, answer.json(), time.monotonic() - started)


def post_many(gateway: Gateway, count: int, *, senders: int = 4, pause: float = 0) -> list[Told]:
    """Let some senders post so many new leads in all, with a pause of so many seconds after each answer."""

    def post_one(_: int) -> Told:
        told = post(gateway)
        time.sleep(pause)
        return told

    with ThreadPoolExecutor(senders) as pool:
        return list(pool.map(post_one, range(count)))


@contextmanager
def under_load(
    gateway: Gateway, *, senders: int = 2, pause: float = 0.02, keep_alive: bool = False
) -> Iterator[list[Told]]:
    """Let some senders post without end while the block runs; the list grows.

    :param keep_alive: each keeps its connection, as many libraries and every proxy do.
    """
    told: list[Told] = []

    def send(over: threading.Event) -> None:
        with requests.Session() as session:
            while not over.wait(pause):
                told.append(post(gateway, session=session if keep_alive else None))

    with going_on(send, threads=senders):
        yield told


def accepted(told: list[Told]) -> list[int]:
    """Return the leads that were answered 200."""
    return [answer.lead_id for answer in told if answer.status == 200]


def percentile_99(told: list[Told]) -> float:
    """Return the seconds that 99 of 100 answers came within."""
    ordered = sorted(answer.seconds for answer in told)
    return ordered[int(len(ordered) * 0.99) - 1]
