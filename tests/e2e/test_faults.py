"""What the gateway promises when something dies: nothing that was answered 200 is lost, and answers stay quick.

One gateway on servers of its own, which every test finds healthy.
"""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from leads.models import LeadStatus
from tests.e2e.gateway import Gateway, Row
from tests.e2e.senders import Told, accepted, percentile_99, post, post_many, under_load
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.make import payload
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(150)]

ANSWER_WITHIN = 0.5  # seconds: the seed's promise to senders
LEASE = 1 + 15  # seconds: CUSTOMER_API_TIMEOUT of the tests' gateway and the margin
LOST_DOORBELL = 5  # seconds: REQUEUE_AFTER of the tests' gateway
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
def running_gateway(database: PostgresServer, broker: RedisServer, running_customer: DemoCustomer) -> Iterator[Gateway]:
    servers = {"postgres": database, "redis": broker}
    with Gateway(customer_url=running_customer.url, WEB_ANSWER_TIMEOUT="", **servers) as running:
        yield running


@pytest.fixture
def gateway(
    running_gateway: Gateway, database: PostgresServer, broker: RedisServer, customer: DemoCustomer
) -> Iterator[Gateway]:
    """The module's gateway, whole and idle; whatever a test killed or froze is mended after it."""
    yield running_gateway
    for server in (database, broker):
        server.thaw()
        if not server.process.is_running:
            server.start()
    for name in ("web", "worker", "beat"):
        if not running_gateway.running(name):
            running_gateway.spawn(name)


def receipts(customer: DemoCustomer) -> Counter[str | None]:
    """How often the customer received each lead, by key."""
    return Counter(request["idempotency_key"] for request in customer.requests)


def assert_all_delivered(gateway: Gateway, lead_ids: list[int], timeout: float) -> None:
    assert lead_ids, "no lead was accepted: the test shows nothing"
    gateway.wait_for_all("DELIVERED", lead_ids, timeout)


def assert_sent_once(gateway: Gateway, customer: DemoCustomer, lead_ids: list[int]) -> None:
    """Every lead reached the customer once; again only after an attempt whose outcome nobody could know."""
    received = receipts(customer)
    for lead_id in lead_ids:
        attempts = gateway.attempts(lead_id)
        unknown = [attempt for attempt in attempts if attempt["finished_at"] is None]
        times = received[gateway.lead(lead_id)["idempotency_key"]]
        assert 1 <= times <= 1 + len(unknown), f"lead {lead_id} was sent {times} times: {attempts}"


def assert_quick(told: list[Told]) -> None:
    slowest = sorted((answer.seconds for answer in told), reverse=True)[:5]
    assert percentile_99(told) < ANSWER_WITHIN, f"the slowest took {slowest} s"


def assert_refused(told: list[Told], error: str) -> None:
    """Every answer was a 503 in the seed's form."""
    assert {answer.status for answer in told} == {503}
    assert {answer.body["error"] for answer in told} == {error}
    assert all(answer.body.keys() == {"error", "correlation_id"} for answer in told)
    assert len({answer.body["correlation_id"] for answer in told}) == len(told)


def newest_leads(gateway: Gateway, after: int) -> list[Row]:
    return gateway.rows(f"SELECT * FROM inbound_lead WHERE id > {after} ORDER BY id")


def last_lead(gateway: Gateway) -> int:
    return max((lead["id"] for lead in gateway.leads()), default=0)


# --- the worker ------------------------------------------------------------------------------------------------------


def test_a_lead_whose_worker_was_killed_in_mid_delivery_is_delivered_by_the_next(
    gateway: Gateway, customer: DemoCustomer
) -> None:
    before = len(customer.requests)
    customer.set_mode("delay=900ms")  # booked at once, answered when nobody listens any more
    lead_id = gateway.accept(payload())
    wait_until(lambda: len(customer.requests) > before, 5, "the customer to be asked", pause=0.01)
    gateway.kill("worker")
    killed = time.monotonic()
    customer.set_mode("")
    gateway.spawn("worker")

    gateway.wait_for("DELIVERED", lead_id, timeout=LEASE + 10)

    assert time.monotonic() - killed > LEASE - 3, "it was taken from a worker that might have been alive"
    first, second = gateway.attempts(lead_id)
    assert (first["finished_at"], first["response_status"], first["success"]) == (None, None, False)
    assert (second["attempt_no"], second["success"]) == (2, True)
    key = gateway.lead(lead_id)["idempotency_key"]
    requests = [request for request in customer.requests if request["idempotency_key"] == key]
    assert [request["booked"] for request in requests] == [True, False]


def test_a_worker_that_is_asked_to_end_finishes_what_it_is_at(gateway: Gateway, customer: DemoCustomer) -> None:
    before = len(customer.requests)
    customer.set_mode("delay=700ms")
    lead_id = gateway.accept(payload())
    wait_until(lambda: len(customer.requests) > before, 5, "the customer to be asked", pause=0.01)

    gateway.terminate("worker")

    assert gateway.lead(lead_id)["status"] == "DELIVERED"
    [attempt] = gateway.attempts(lead_id)
    assert attempt["success"]


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_leads_survive_the_loss_of_every_doorbell(
    gateway: Gateway, customer: DemoCustomer, broker: RedisServer
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
        assert client.llen(QUEUE) == 20

    broker.flush()
    gateway.env["RETRY_BACKOFF_BASE"] = "500ms"
    gateway.spawn("worker")

    assert_all_delivered(gateway, queued + waiting, timeout=20 + LOST_DOORBELL + 15)
    assert {receipts(customer)[gateway.lead(lead_id)["idempotency_key"]] for lead_id in queued} == {1}
    assert {len(gateway.attempts(lead_id)) for lead_id in waiting} == {2}


@pytest.mark.alone
def test_a_restart_of_redis_under_load_loses_nothing(
    gateway: Gateway, customer: DemoCustomer, broker: RedisServer
) -> None:
    before = last_lead(gateway)
    with under_load(gateway) as told:
        time.sleep(1)
        broker.kill()
        time.sleep(2)
        broker.start()
        time.sleep(3)

    assert {answer.status for answer in told} == {200, 503}
    assert_quick(told)
    leads = [lead["id"] for lead in newest_leads(gateway, before)]
    assert len(leads) == len(told), "a lead answered with «queue unavailable» is kept all the same"
    assert_all_delivered(gateway, leads, timeout=LOST_DOORBELL + 20)
    assert_sent_once(gateway, customer, leads)
    assert gateway.running("worker"), "the worker did not survive"
    assert gateway.running("beat"), "beat did not survive"


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["refusing", "frozen"])
def test_without_redis_answers_are_quick_and_the_leads_are_delivered_later(
    gateway: Gateway, customer: DemoCustomer, broker: RedisServer, fault: str
) -> None:
    before = last_lead(gateway)
    gateway.accept(payload())  # connections are open, as on any working day
    broker.kill() if fault == "refusing" else broker.freeze()

    told = post_many(gateway, 100, pause=0.1)  # for so long that it is tried again and again

    assert_refused(told, "queue unavailable")
    assert_quick(told)
    leads = newest_leads(gateway, before)
    assert len(leads) == 101
    assert {lead["status"] for lead in leads[1:]} == {LeadStatus.RECEIVED}
    assert {lead["enqueued_at"] for lead in leads[1:]} == {None}, "known to be unrung: nobody waits for their doorbells"

    broker.start() if fault == "refusing" else broker.thaw()
    everyone = [lead["id"] for lead in leads]
    assert_all_delivered(gateway, everyone, timeout=LOST_DOORBELL + 20)
    assert_sent_once(gateway, customer, everyone)
    assert post(gateway).status == 200


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["refusing", "frozen"])
def test_without_postgresql_answers_are_quick_and_everything_recovers(
    gateway: Gateway, customer: DemoCustomer, database: PostgresServer, fault: str
) -> None:
    before = last_lead(gateway)
    gateway.accept(payload())
    database.kill() if fault == "refusing" else database.freeze()

    told = post_many(gateway, 100, pause=0.1)  # for so long that it is tried again and again

    assert_refused(told, "database error")
    assert_quick(told)

    database.start() if fault == "refusing" else database.thaw()
    wait_until(lambda: post(gateway).status == 200, 15, "the web to recover", pause=0.2)
    # A commit may have gone through though its answer was lost: what is there is delivered like any other.
    assert_all_delivered(gateway, [lead["id"] for lead in newest_leads(gateway, before)], LEASE + LOST_DOORBELL + 10)


@pytest.mark.alone
def test_a_restart_of_postgresql_under_load_loses_nothing(
    gateway: Gateway, customer: DemoCustomer, database: PostgresServer
) -> None:
    with under_load(gateway) as told:
        time.sleep(1)
        database.restart()
        time.sleep(2)
        database.kill()
        database.start()
        time.sleep(2)

    assert {answer.status for answer in told} == {200, 503}
    assert_quick(told)
    leads = accepted(told)
    assert_all_delivered(gateway, leads, timeout=LEASE + LOST_DOORBELL + 20)
    assert_sent_once(gateway, customer, leads)
    assert gateway.running("worker"), "the worker did not survive"
    assert gateway.running("beat"), "beat did not survive"


# --- web and beat ----------------------------------------------------------------------------------------------------


def test_a_killed_web_loses_nothing_that_it_accepted(gateway: Gateway, customer: DemoCustomer) -> None:
    with under_load(gateway, senders=4) as told:
        time.sleep(1)
        gateway.kill("web")
        gateway.spawn("web")
        time.sleep(1)

    assert 0 in {answer.status for answer in told}, "no sender noticed: the test shows nothing"
    leads = accepted(told)
    assert_all_delivered(gateway, leads, timeout=LOST_DOORBELL + 20)
    assert_sent_once(gateway, customer, leads)


def test_every_lead_is_sent_once_by_two_workers_and_two_beats_though_each_doorbell_rings_twice(
    gateway: Gateway, customer: DemoCustomer, broker: RedisServer
) -> None:
    customer.set_mode("delay=200ms")
    gateway.spawn("worker")
    second_beat = gateway.spawn("beat")
    workers = gateway.running("worker")
    for worker in workers:
        worker.freeze()
    leads = accepted(post_many(gateway, 60))
    with broker.client() as client:
        queued_leads = client.lrange(QUEUE, 0, -1)
        assert len(queued_leads) > 40, "there is nothing to double"
        client.lpush(QUEUE, *queued_leads)
    for worker in workers:
        worker.thaw()

    assert_all_delivered(gateway, leads, timeout=30)
    assert {receipts(customer)[gateway.lead(lead_id)["idempotency_key"]] for lead_id in leads} == {1}
    second_beat.kill()
    workers[-1].kill()


# --- the embedded default --------------------------------------------------------------------------------------------


@pytest.mark.embedded
def test_the_embedded_default_survives_a_killed_worker_and_lost_doorbells(customer: DemoCustomer) -> None:
    with Gateway(customer_url=customer.url) as gateway:
        before = len(customer.requests)
        customer.set_mode("delay=900ms")
        in_delivery = gateway.accept(payload())
        wait_until(lambda: len(customer.requests) > before, 5, "the customer to be asked", pause=0.01)
        gateway.kill("worker")
        customer.set_mode("")
        queued = accepted(post_many(gateway, 20))
        queued_leads = list((gateway.directory / "queue").glob("*.msg"))
        assert len(queued_leads) >= 20
        for message in queued_leads:
            message.unlink()
        gateway.spawn("worker")

        assert_all_delivered(gateway, [in_delivery, *queued], timeout=LOST_DOORBELL + 15)
        assert_sent_once(gateway, customer, [in_delivery, *queued])
        assert [attempt["success"] for attempt in gateway.attempts(in_delivery)] == [False, True]
