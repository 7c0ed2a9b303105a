"""Webhook senders: they post leads and keep the results."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from tests.background import running_threads
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer, LedgerRecord
from tests.make import payload


@dataclass(frozen=True)
class PostResult:
    """The response to a post and its duration in seconds. Status 0 means that the connection broke."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def lead_id(self) -> int:
        return int(self.body["lead_id"])


def post(gateway: Gateway, *, session: requests.Session | None = None, **headers: str) -> PostResult:
    """Post one new lead, on a new connection or on that of a session."""
    started = time.monotonic()
    try:
        answer = gateway.post(payload(), session=session, **headers)
    except requests.RequestException:
        return PostResult(0, {}, time.monotonic() - started)
    return PostResult(answer.status_code, answer.json(), time.monotonic() - started)


def post_many(gateway: Gateway, count: int, *, senders: int = 4, pause: float = 0) -> list[PostResult]:
    """Post `count` new leads from several senders, each pausing `pause` seconds after every response."""

    def post_one(_: int) -> PostResult:
        result = post(gateway)
        time.sleep(pause)
        return result

    with ThreadPoolExecutor(senders) as pool:
        return list(pool.map(post_one, range(count)))


@contextmanager
def under_load(
    gateway: Gateway, *, senders: int = 2, pause: float = 0.02, keep_alive: bool = False
) -> Iterator[list[PostResult]]:
    """Post leads from several senders while the block runs, and append each result to the yielded list.

    :param keep_alive: reuse each sender's connection, as many libraries and every proxy do.
    """
    results: list[PostResult] = []

    def send(stop: threading.Event) -> None:
        with requests.Session() as session:
            while not stop.wait(pause):
                results.append(post(gateway, session=session if keep_alive else None))

    with running_threads(send, count=senders):
        yield results


def receipts(gateway: Gateway, customer: HostileCustomer, lead_id: int) -> list[LedgerRecord]:
    """Return the requests with a lead that the customer has received, oldest first."""
    key = gateway.lead(lead_id)["idempotency_key"]
    return [request for request in customer.requests if request["idempotency_key"] == key]


def assert_sent_once(gateway: Gateway, customer: HostileCustomer, lead_ids: list[int]) -> None:
    """Check that the customer received every lead once, and again only after an attempt without a response."""
    for lead_id in lead_ids:
        attempts = gateway.attempts(lead_id)
        unknown = [attempt for attempt in attempts if attempt["response_status"] is None]
        times = len(receipts(gateway, customer, lead_id))
        assert 1 <= times <= 1 + len(unknown), f"lead {lead_id} was sent {times} times: {attempts}"


def accepted(results: list[PostResult]) -> list[int]:
    """Return the ids of the leads that were accepted with 200."""
    return [result.lead_id for result in results if result.status == 200]


def percentile_99(results: list[PostResult]) -> float:
    """Return the 99th percentile of the response times in seconds."""
    ordered = sorted(result.seconds for result in results)
    return ordered[int(len(ordered) * 0.99) - 1]
