"""Kill and freeze processes and servers: no accepted lead is lost, and responses stay fast.

The tests share one gateway on servers of its own, which is healthy when a test begins.
"""

import time
from collections.abc import Iterator

import pytest

from leads.models import LeadStatus
from tests.e2e.gateway import Gateway, Row
from tests.e2e.senders import (
    PostResult,
    accepted,
    assert_sent_once,
    percentile_99,
    post,
    post_many,
    receipts,
    under_load,
)
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(150)]

ANSWER_WITHIN = 0.5  # seconds, from the specification
LEASE = 1 + 15  # seconds: CUSTOMER_API_TIMEOUT of the tests' gateway plus the margin
LOST_MESSAGE = 5  # seconds: REQUEUE_AFTER of the tests' gateway
QUEUE = "queue:process_lead"


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def running_gateway(
    database: PostgresServer, broker: RedisServer, running_customer: HostileCustomer
) -> Iterator[Gateway]:
    servers = {"postgres": database, "redis": broker}
    with Gateway(customer_url=running_customer.url, WEB_ANSWER_TIMEOUT="", **servers) as running:
        yield running


@pytest.fixture
def gateway(
    running_gateway: Gateway, database: PostgresServer, broker: RedisServer, customer: HostileCustomer
) -> Iterator[Gateway]:
    """Return the module's gateway, and restore after the test what it killed or froze."""
    yield running_gateway
    for server in (database, broker):
        server.thaw()
        if not server.process.is_running:
            server.start()
    for name in ("web", "worker", "beat"):
        if not running_gateway.running(name):
            running_gateway.spawn(name)


def assert_all_delivered(gateway: Gateway, lead_ids: list[int], timeout: float) -> None:
    assert lead_ids, "no lead was accepted: the test proves nothing"
    gateway.wait_for_all("DELIVERED", lead_ids, timeout)


def assert_fast(results: list[PostResult]) -> None:
    slowest = sorted((result.seconds for result in results), reverse=True)[:5]
    assert percentile_99(results) < ANSWER_WITHIN, f"the slowest took {slowest} s"


def assert_refused(results: list[PostResult], error: str) -> None:
    """Check that every response is a 503 in the form that the specification defines."""
    assert {result.status for result in results} == {503}
    assert {result.body["error"] for result in results} == {error}
    assert all(result.body.keys() == {"error", "correlation_id"} for result in results)
    assert len({result.body["correlation_id"] for result in results}) == len(results)


def newest_leads(gateway: Gateway, after: int) -> list[Row]:
    return gateway.rows(f"SELECT * FROM inbound_lead WHERE id > {after} ORDER BY id")


def last_lead(gateway: Gateway) -> int:
    return max((lead["id"] for lead in gateway.leads()), default=0)


# --- the worker ------------------------------------------------------------------------------------------------------


def test_the_next_worker_delivers_the_lead_of_a_killed_one(gateway: Gateway, customer: HostileCustomer) -> None:
    before = len(customer.requests)
    customer.set_mode("delay=900ms")  # the customer books it at once and responds when the worker is dead
    lead_id = gateway.accept(payload())
    wait_until(lambda: len(customer.requests) > before, 5, "a request to the customer", pause=0.01)
    gateway.kill("worker")
    killed = time.monotonic()
    customer.set_mode("")
    gateway.spawn("worker")

    gateway.wait_for("DELIVERED", lead_id, timeout=LEASE + 10)

    assert time.monotonic() - killed > LEASE - 3, "the lease was not respected"
    first, second = gateway.attempts(lead_id)
    assert (first["finished_at"], first["response_status"], first["success"]) == (None, None, False)
    assert (second["attempt_no"], second["success"]) == (2, True)
    assert [request["booked"] for request in receipts(gateway, customer, lead_id)] == [True, False]


def test_a_terminated_worker_finishes_its_delivery(gateway: Gateway, customer: HostileCustomer) -> None:
    before = len(customer.requests)
    customer.set_mode("delay=700ms")
    lead_id = gateway.accept(payload())
    wait_until(lambda: len(customer.requests) > before, 5, "a request to the customer", pause=0.01)

    gateway.terminate("worker")

    assert gateway.lead(lead_id)["status"] == "DELIVERED"
    [attempt] = gateway.attempts(lead_id)
    assert attempt["success"]


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_leads_survive_the_loss_of_all_messages(
    gateway: Gateway, customer: HostileCustomer, broker: RedisServer
) -> None:
    customer.set_mode("status=503&fail_first=1")
    gateway.kill("worker")
    gateway.env["RETRY_BACKOFF_BASE"] = "20s"
    gateway.spawn("worker")
    waiting = accepted(post_many(gateway, 5))
    gateway.wait_for_all("FAILED", waiting)  # their countdowns are in the worker's memory and in Redis
    gateway.kill("worker")
    customer.set_mode("")
    queued = accepted(post_many(gateway, 20))
    with broker.client() as client:
        assert 1 <= client.llen(QUEUE) <= 20

    broker.flush()
    gateway.env["RETRY_BACKOFF_BASE"] = "500ms"
    gateway.spawn("worker")

    assert_all_delivered(gateway, queued + waiting, timeout=20 + LOST_MESSAGE + 15)
    assert_sent_once(gateway, customer, queued)
    assert {len(gateway.attempts(lead_id)) for lead_id in waiting} == {2}


@pytest.mark.alone
def test_a_restart_of_redis_under_load_loses_nothing(
    gateway: Gateway, customer: HostileCustomer, broker: RedisServer
) -> None:
    before = last_lead(gateway)
    with under_load(gateway) as results:
        time.sleep(1)
        broker.kill()
        time.sleep(2)
        broker.start()
        time.sleep(3)

    assert {result.status for result in results} == {200, 503}
    assert_fast(results)
    leads = [lead["id"] for lead in newest_leads(gateway, before)]
    assert len(leads) == len(results), "a lead refused with «queue unavailable» must be stored"
    assert_all_delivered(gateway, leads, timeout=LOST_MESSAGE + 20)
    assert_sent_once(gateway, customer, leads)
    assert gateway.running("worker"), "the worker ended"
    assert gateway.running("beat"), "beat ended"


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["refusing", "frozen"])
def test_without_redis_responses_are_fast_and_leads_are_delivered_later(
    gateway: Gateway, customer: HostileCustomer, broker: RedisServer, fault: str
) -> None:
    before = last_lead(gateway)
    gateway.accept(payload())  # so that connections are open
    broker.kill() if fault == "refusing" else broker.freeze()

    results = post_many(gateway, 100, pause=0.1)  # long enough for several tries of the open breaker

    assert_refused(results, "queue unavailable")
    assert_fast(results)
    leads = newest_leads(gateway, before)
    assert len(leads) == 101
    assert {lead["status"] for lead in leads[1:]} == {LeadStatus.RECEIVED}
    assert {lead["enqueued_at"] for lead in leads[1:]} == {None}, (
        "the sweep would wait for messages that were never sent"
    )

    broker.start() if fault == "refusing" else broker.thaw()
    lead_ids = [lead["id"] for lead in leads]
    assert_all_delivered(gateway, lead_ids, timeout=LOST_MESSAGE + 20)
    assert_sent_once(gateway, customer, lead_ids)
    assert post(gateway).status == 200


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["refusing", "frozen"])
def test_without_postgresql_responses_are_fast_and_the_gateway_recovers(
    gateway: Gateway, customer: HostileCustomer, database: PostgresServer, fault: str
) -> None:
    before = last_lead(gateway)
    gateway.accept(payload())
    database.kill() if fault == "refusing" else database.freeze()

    results = post_many(gateway, 100, pause=0.1)  # long enough for several tries of the open breaker

    assert_refused(results, "database error")
    assert_fast(results)

    database.start() if fault == "refusing" else database.thaw()
    wait_until(lambda: post(gateway).status == 200, 15, "web to recover", pause=0.2)
    # A commit can succeed although its response was lost. Such leads are delivered too.
    assert_all_delivered(gateway, [lead["id"] for lead in newest_leads(gateway, before)], LEASE + LOST_MESSAGE + 10)


@pytest.mark.alone
def test_a_restart_of_postgresql_under_load_loses_nothing(
    gateway: Gateway, customer: HostileCustomer, database: PostgresServer
) -> None:
    with under_load(gateway) as results:
        time.sleep(1)
        database.restart()
        time.sleep(2)
        database.kill()
        database.start()
        time.sleep(2)

    # The writer connects again and repeats its statement, so most restarts go unnoticed.
    assert {result.status for result in results} <= {200, 503}
    assert_fast(results)
    leads = accepted(results)
    assert_all_delivered(gateway, leads, timeout=LEASE + LOST_MESSAGE + 20)
    assert_sent_once(gateway, customer, leads)
    assert gateway.running("worker"), "the worker ended"
    assert gateway.running("beat"), "beat ended"


# --- web and beat ----------------------------------------------------------------------------------------------------


def test_a_killed_web_server_loses_no_accepted_lead(gateway: Gateway, customer: HostileCustomer) -> None:
    with under_load(gateway, senders=4) as results:
        time.sleep(1)
        gateway.kill("web")
        gateway.spawn("web")
        time.sleep(1)

    assert 0 in {result.status for result in results}, "no sender noticed: the test proves nothing"
    leads = accepted(results)
    assert_all_delivered(gateway, leads, timeout=LOST_MESSAGE + 20)
    assert_sent_once(gateway, customer, leads)


def test_duplicate_messages_workers_and_beats_send_each_lead_once(
    gateway: Gateway, customer: HostileCustomer, broker: RedisServer
) -> None:
    customer.set_mode("delay=200ms")
    gateway.spawn("worker")
    second_beat = gateway.spawn("beat")
    workers = gateway.running("worker")
    for worker in workers:
        worker.freeze()
    leads = accepted(post_many(gateway, 60))
    with broker.client() as client:
        messages = client.lrange(QUEUE, 0, -1)
        assert len(messages) > 10, "there is nothing to duplicate"
        client.lpush(QUEUE, *messages)
    for worker in workers:
        worker.thaw()

    assert_all_delivered(gateway, leads, timeout=30)
    assert_sent_once(gateway, customer, leads)
    second_beat.kill()
    workers[-1].kill()


# --- the embedded default --------------------------------------------------------------------------------------------


@pytest.mark.embedded
def test_the_embedded_default_survives_a_killed_worker_and_lost_messages(customer: HostileCustomer) -> None:
    with Gateway(customer_url=customer.url) as gateway:
        before = len(customer.requests)
        customer.set_mode("delay=900ms")
        in_delivery = gateway.accept(payload())
        wait_until(lambda: len(customer.requests) > before, 5, "a request to the customer", pause=0.01)
        gateway.kill("worker")
        customer.set_mode("")
        queued = accepted(post_many(gateway, 20))
        messages = list((gateway.directory / "queue").glob("*.msg"))
        assert messages
        for message in messages:
            message.unlink()
        gateway.spawn("worker")

        assert_all_delivered(gateway, [in_delivery, *queued], timeout=LOST_MESSAGE + 15)
        assert_sent_once(gateway, customer, [in_delivery, *queued])
        assert [attempt["success"] for attempt in gateway.attempts(in_delivery)] == [False, True]
