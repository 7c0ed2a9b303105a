"""Heartbeats of running and stopped processes: threads of this process, and real processes."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from stats.models import Heartbeat, ProcessKind
from stats.monitoring import heartbeat
from stats.monitoring.heartbeat import HeartbeatThread
from tests.e2e.gateway import Gateway, Row
from tests.hostile_customer import HostileCustomer
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

NOW = datetime(2026, 1, 21, 15, 42, tzinfo=UTC)
QUICK = timedelta(milliseconds=50)
WORKER, BEAT = ProcessKind.WORKER, ProcessKind.BEAT


def seen(*, ago: timedelta, name: str = "celery@host", kind: ProcessKind = WORKER) -> Heartbeat:
    return Heartbeat(name=name, kind=kind, started_at=NOW - timedelta(days=9), seen_at=NOW - ago)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "expected"), [(0, True), (30, True), (31, False)])
def test_a_process_with_a_heartbeat_in_the_last_30_seconds_is_running(seconds, expected):
    assert heartbeat.is_running(seen(ago=timedelta(seconds=seconds)), now=NOW) is expected


@pytest.mark.parametrize(("minutes", "expected"), [(3, True), (4, False)])
def test_beat_may_sleep_from_one_tick_to_the_next(settings, minutes, expected):
    settings.WORKER_POLL_INTERVAL = timedelta(minutes=1)

    assert heartbeat.is_running(seen(ago=timedelta(minutes=minutes), kind=BEAT), now=NOW) is expected


@pytest.mark.django_db
def test_stopped_processes_are_shown_for_a_day():
    seen(ago=timedelta(hours=25), name="celery@long-gone").save()
    seen(ago=timedelta(hours=23), name="celery@gone").save()
    seen(ago=timedelta(seconds=1), name="beat@here", kind=BEAT).save()

    assert [process.name for process in heartbeat.recent_processes(now=NOW)] == ["beat@here", "celery@gone"]


# --- the thread ------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads(transactional_db: None) -> Iterator[list[HeartbeatThread]]:
    made: list[HeartbeatThread] = []
    yield made
    for thread in made:
        thread.stop()


@pytest.fixture
def start(threads):
    """A function that starts a thread with short intervals."""

    def started(
        name: str = "celery@host", *, worked: threading.Event | None = None, interval: timedelta = QUICK
    ) -> HeartbeatThread:
        thread = HeartbeatThread(name, BEAT if worked else WORKER, interval=interval, worked=worked)
        thread.start()
        threads.append(thread)
        return thread

    return started


def rows() -> list[Heartbeat]:
    return list(Heartbeat.objects.order_by("name"))


def test_the_row_is_renewed_until_the_thread_is_stopped(start):
    thread = start()
    wait_until(rows, 5, "the row")
    [first] = rows()
    wait_until(lambda: rows()[0].seen_at > first.seen_at, 5, "the row to be renewed")
    [second] = rows()
    assert (second.name, second.kind, second.started_at) == ("celery@host", "worker", first.started_at)

    thread.stop()

    assert rows() == []


def test_the_row_is_renewed_only_after_work(start):
    worked = threading.Event()
    start("beat@host", worked=worked)
    threading.Event().wait(0.3)
    assert rows() == []

    worked.set()
    wait_until(rows, 5, "the row")
    [first] = rows()
    threading.Event().wait(0.3)

    assert [row.seen_at for row in rows()] == [first.seen_at]


def test_a_successor_of_the_same_name_keeps_its_row(start):
    predecessor = start(interval=timedelta(hours=1))
    wait_until(rows, 5, "the row")
    start(interval=timedelta(hours=1))
    wait_until(lambda: rows()[0].started_at > predecessor._started_at, 5, "the row to be taken over")

    predecessor.stop()

    assert [row.name for row in rows()] == ["celery@host"]


def test_starting_deletes_rows_that_are_a_day_old(start):
    Heartbeat.objects.create(name="celery@gone", kind=WORKER, started_at=NOW, seen_at=NOW - timedelta(days=1))
    late = timezone.now() - timedelta(hours=23)
    Heartbeat.objects.create(name="celery@late", kind=WORKER, started_at=late, seen_at=late)

    start()
    wait_until(lambda: Heartbeat.objects.filter(name="celery@host"), 5, "the row")

    assert [row.name for row in rows()] == ["celery@host", "celery@late"]


def test_a_long_name_is_cut(start):
    start("celery@" + "x" * 300)

    wait_until(rows, 5, "the row")


def test_an_unavailable_database_is_logged_once(start, caplog, monkeypatch):
    renew, unavailable = HeartbeatThread._renew_row, threading.Event()
    unavailable.set()

    def failing(self):
        if unavailable.is_set():
            raise OperationalError("the database system is shutting down")
        renew(self)

    monkeypatch.setattr(HeartbeatThread, "_renew_row", failing)
    start()
    threading.Event().wait(0.4)
    assert caplog.text.count("heartbeat_not_written") == 1

    unavailable.clear()
    wait_until(rows, 5, "the row")
    assert caplog.text.count("heartbeat_written_again") == 1


# --- real processes --------------------------------------------------------------------------------------------------


def beats(gateway: Gateway, kind: str = "worker") -> list[Row]:
    return gateway.rows(f"SELECT * FROM heartbeat WHERE kind = '{kind}' ORDER BY name")


def wait_for_both(gateway: Gateway) -> None:
    wait_until(lambda: beats(gateway) and beats(gateway, "beat"), 15, "heartbeats of worker and beat")


def assert_silent(gateway: Gateway, *kinds: str) -> None:
    """Assert that the rows exist and are not renewed within more than an interval."""
    before = [beats(gateway, kind) for kind in kinds]
    threading.Event().wait(heartbeat.INTERVAL.total_seconds() + 2)
    assert [beats(gateway, kind) for kind in kinds] == before
    assert all(before)


def assert_renewed(gateway: Gateway, kind: str) -> None:
    [before] = beats(gateway, kind)
    wait_until(lambda: beats(gateway, kind)[0]["seen_at"] > before["seen_at"], 30, f"a new heartbeat of {kind}")


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, redis: RedisServer) -> Iterator[Gateway]:
    with (
        HostileCustomer() as customer,
        Gateway(customer_url=customer.url, postgres=postgres, redis=redis, redis_database=7) as running,
    ):
        yield running


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_a_terminated_process_deletes_its_row(gateway):
    wait_for_both(gateway)
    [worker], [beat] = beats(gateway), beats(gateway, "beat")
    assert worker["name"].startswith("celery@")
    assert beat["name"].startswith("beat@")
    assert_renewed(gateway, "worker")
    assert_renewed(gateway, "beat")

    gateway.terminate("worker")
    assert beats(gateway) == []
    gateway.terminate("beat")
    assert beats(gateway, "beat") == []

    gateway.spawn("worker")
    gateway.spawn("beat")
    wait_for_both(gateway)


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_a_killed_process_leaves_its_row_to_its_successor(gateway):
    wait_for_both(gateway)
    before = {kind: beats(gateway, kind)[0] for kind in ("worker", "beat")}
    for kind in before:
        gateway.kill(kind)

    assert_silent(gateway, *before)

    for kind, row in before.items():
        gateway.spawn(kind)
        wait_until(lambda k=kind, r=row: beats(gateway, k)[0]["started_at"] > r["started_at"], 15, "the next run")
        assert len(beats(gateway, kind)) == 1


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_a_frozen_process_has_no_heartbeat_until_it_continues(gateway):
    wait_for_both(gateway)
    frozen = [gateway.running(kind)[0] for kind in ("worker", "beat")]
    try:
        for process in frozen:
            process.freeze()
        assert_silent(gateway, "worker", "beat")
    finally:
        for process in frozen:
            process.thaw()

    assert_renewed(gateway, "worker")
    assert_renewed(gateway, "beat")


@pytest.mark.e2e
@pytest.mark.faults
@pytest.mark.timeout(180)
def test_heartbeats_return_after_outages_of_database_and_queue():
    with (
        PostgresServer(durable=True) as database,
        RedisServer() as broker,
        HostileCustomer() as customer,
        Gateway(postgres=database, redis=broker, customer_url=customer.url) as gateway,
    ):
        wait_for_both(gateway)
        database.stop()
        threading.Event().wait(12)  # several heartbeats fail, one is logged
        database.start()
        assert_renewed(gateway, "worker")
        assert_renewed(gateway, "beat")
        assert gateway.logs("worker").count("heartbeat_not_written") == 1

        broker.stop()
        threading.Event().wait(4)  # an earlier message may still renew it
        assert_silent(gateway, "beat")
        broker.start()
        assert_renewed(gateway, "beat")
