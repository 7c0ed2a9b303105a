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


@dataclass(frozen=True)
class Told:
    """What a sender was told, and after how many seconds; status 0: the connection broke."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def lead_id(self) -> int:
        return int(self.body["lead_id"])


def post(gateway: Gateway, **headers: str) -> Told:
    """Post one new lead."""
    started = time.monotonic()
    try:
        answer = gateway.post(payload(), **headers)
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
def under_load(gateway: Gateway, *, senders: int = 2, pause: float = 0.02) -> Iterator[list[Told]]:
    """Let some senders post without end while the block runs; the list grows."""
    told: list[Told] = []
    over = threading.Event()

    def send() -> None:
        while not over.wait(pause):
            told.append(post(gateway))

    with ThreadPoolExecutor(senders) as pool:
        running = [pool.submit(send) for _ in range(senders)]
        try:
            yield told
        finally:
            over.set()
    for sender in running:
        sender.result()


def accepted(told: list[Told]) -> list[int]:
    """Return the leads that were answered 200."""
    return [answer.lead_id for answer in told if answer.status == 200]


def percentile_99(told: list[Told]) -> float:
    """Return the seconds that 99 of 100 answers came within."""
    ordered = sorted(answer.seconds for answer in told)
    return ordered[int(len(ordered) * 0.99) - 1]
