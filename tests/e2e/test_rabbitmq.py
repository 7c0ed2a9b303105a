"""The gateway with RabbitMQ as its broker, which loses its connection, restarts, blocks publishers and freezes."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import accepted, assert_sent_once, post, post_many, under_load
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.processes import wait_until
from tests.servers import PostgresServer, RabbitMQServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Long enough for a server that is slow on a busy machine, short enough to be noticed.
_ANSWER_TIMEOUT = "2s"


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, rabbitmq: RabbitMQServer, running_customer: HostileCustomer) -> Iterator[Gateway]:
    """Run one gateway for the module. The sweep leaves messages alone that RabbitMQ may still deliver."""
    settings = rabbitmq.env | {"WEB_ANSWER_TIMEOUT": _ANSWER_TIMEOUT, "REQUEUE_AFTER": "10s"}
    with Gateway(postgres=postgres, customer_url=running_customer.url, **settings) as gateway:
        yield gateway


def test_leads_are_delivered_and_failed_attempts_repeated(gateway: Gateway, customer: HostileCustomer) -> None:
    customer.set_mode("status=503&fail_first=1")

    lead_id = gateway.accept(payload())

    gateway.wait_for("DELIVERED", lead_id)
    assert [attempt["response_status"] for attempt in gateway.attempts(lead_id)] == [503, 200]


def test_the_checks_name_the_server_and_its_workers(gateway: Gateway, rabbitmq: RabbitMQServer) -> None:
    report = gateway.manage("doctor")

    assert f"RabbitMQ at 127.0.0.1:{rabbitmq.port}, version " in report
    assert "answers: celery@" in report
    assert "guest" not in report


def test_a_restart_of_the_server_loses_no_lead(
    gateway: Gateway, customer: HostileCustomer, rabbitmq: RabbitMQServer
) -> None:
    earlier = {row["id"] for row in gateway.leads()}
    with under_load(gateway, pause=0.2) as results:
        wait_until(lambda: len(accepted(results)) > 10, 60, "leads before the restart")
        rabbitmq.restart()
        before = len(accepted(results))
        wait_until(lambda: len(accepted(results)) > before + 10, 60, "leads after the restart")

    stored = [row["id"] for row in gateway.leads() if row["id"] not in earlier]
    gateway.wait_for_all("DELIVERED", stored, timeout=120)
    assert_sent_once(gateway, customer, stored)
    assert {result.status for result in results} <= {200, 503}


def test_a_lost_message_is_replaced_by_the_sweep(gateway: Gateway, rabbitmq: RabbitMQServer) -> None:
    gateway.terminate("worker")
    lead_ids = accepted(post_many(gateway, 5))
    rabbitmq.control("purge_queue", "queue:process_lead")
    gateway.spawn("worker")

    gateway.wait_for_all("DELIVERED", lead_ids, timeout=120)


@pytest.mark.parametrize("fault", ["blocks publishers", "frozen"])
def test_senders_get_a_503_in_time(gateway: Gateway, rabbitmq: RabbitMQServer, fault: str) -> None:
    if fault == "frozen":
        rabbitmq.freeze()
    else:
        rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    try:
        wait_until(lambda: post(gateway).status == 503, 30, "the first 503")
        result = post(gateway)
    finally:
        rabbitmq.thaw()
        if fault != "frozen":
            rabbitmq.control("set_vm_memory_high_watermark", "0.4")

    assert (result.status, result.body["error"]) == (503, "queue unavailable")
    assert result.seconds < 5, "it waited longer than WEB_ANSWER_TIMEOUT and a busy machine explain"
    time.sleep(1)  # the breaker's pause
    wait_until(lambda: post(gateway).status == 200, 30, "a 200 after the fault")
    gateway.wait_for_all("DELIVERED", [row["id"] for row in gateway.leads()], timeout=120)
