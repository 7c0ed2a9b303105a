"""A new version comes while leads come in: web and workers are changed under load, and nobody notices."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from delivery.demo_customer import DemoCustomer
from tests.e2e.gateway import Gateway
from tests.e2e.senders import accepted, under_load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.fixture
def customer() -> Iterator[DemoCustomer]:
    """A customer of the test's own, with an empty ledger."""
    with DemoCustomer() as customer:
        yield customer


@pytest.fixture
def gateway(customer: DemoCustomer, postgres: Any, redis: Any) -> Iterator[Gateway]:
    redis.flush()
    with Gateway(customer_url=customer.url, postgres=postgres, redis=redis, redis_database=5) as gateway:
        yield gateway


def sent_once(gateway: Gateway, customer: DemoCustomer, leads: list[int]) -> None:
    gateway.wait_for_all("DELIVERED", leads, timeout=60)
    sent = [request["idempotency_key"] for request in customer.requests]
    assert len(sent) == len(set(sent)) == len(leads)


def test_web_servers_are_changed_under_load_and_no_request_is_dropped(gateway: Gateway, customer: DemoCustomer) -> None:
    [web] = gateway.running("web")
    with under_load(gateway, senders=4, pause=0.005) as told:
        for _ in range(2):
            before = len(told)
            os.kill(web.pid, signal.SIGHUP)
            time.sleep(3)
            assert len(told) > before + 20, "nobody was answered meanwhile: the test shows nothing"

    assert {answer.status for answer in told} == {200}
    sent_once(gateway, customer, accepted(told))


def test_workers_are_changed_under_load_and_every_lead_is_sent_once(gateway: Gateway, customer: DemoCustomer) -> None:
    customer.set_mode("delay=200ms")
    with under_load(gateway, senders=2, pause=0.02) as told:
        for _ in range(2):
            old = gateway.running("worker")
            gateway.spawn("worker")
            for worker in old:
                worker.stop(timeout=30)

    assert {answer.status for answer in told} == {200}
    sent_once(gateway, customer, accepted(told))
