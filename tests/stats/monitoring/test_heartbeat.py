"""Heartbeats of running and stopped processes: threads of this process, and real processes."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
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


@pytest.mark.parametrize(
    ("kind", "seconds", "expected"), [(WORKER, 30, True), (WORKER, 31, False), (BEAT, 180, True), (BEAT, 240, False)]
)
def test_beat_may_be_silent_longer_than_a_worker(settings, kind, seconds, expected):
    settings.WORKER_POLL_INTERVAL = timedelta(minutes=1)

    assert heartbeat.is_running(seen(ago=timedelta(seconds=seconds), kind=kind), now=NOW) is expected


@pytest.mark.django_db
def test_stopped_processes_are_shown_for_a_day():
    seen(ago=timedelta(hours=25), name="celery@long-gone").save()
    seen(ago=timedelta(hours=23), name="celery@gone").save()
    seen(ago=timedelta(seconds=1), name="beat@here", kind=BEAT).save()

    processes = heartbeat.recent_processes(now=NOW)

    assert [process.name for process in processes] == ["beat@here", "celery@gone"]
    assert heartbeat.running_since(processes, now=NOW) == NOW - timedelta(days=9)
    assert heartbeat.running_since([], now=NOW) is None


# --- the thread ------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(transactional_db: None) -> Iterator[Callable[..., HeartbeatThread]]:
    """A function that starts a thread with short intervals."""
    threads: list[HeartbeatThread] = []

    def started(
        name: str = "celery@host", *, worked: threading.Event | None = None, interval: timedelta = QUICK
    ) -> HeartbeatThread:
        thread = HeartbeatThread(name, BEAT if worked else WORKER, interval=interval, worked=worked)
        thread.start()
        threads.append(thread)
        return thread

    yield started
    for thread in threads:
        thread.stop()


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
    [before] = rows()
    start(interval=timedelta(hours=1))
    wait_until(lambda: rows()[0].started_at > before.started_at, 5, "the row to be taken over")

    predecessor.stop()

    assert [row.name for row in rows()] == ["celery@host"]


def test_starting_deletes_rows_that_are_a_day_old(start):
    late = timezone.now() - timedelta(hours=23)
    for name, at in (("celery@gone", NOW), ("celery@late", late)):
        Heartbeat.objects.create(name=name, kind=WORKER, started_at=at, seen_at=at)

    start("celery@" + "x" * 300)  # a long name is cut
    wait_until(lambda: Heartbeat.objects.filter(name__startswith="celery@x"), 5, "the row")

    assert [row.name[:11] for row in rows()] == ["celery@late", "celery@xxxx"]


def test_an_unavailable_database_is_logged_once(start, caplog, monkeypatch):
    connect, unavailable = BaseDatabaseWrapper.ensure_connection, threading.Event()
    unavailable.set()

    def refuse(self):
        if unavailable.is_set():
            raise OperationalError("the database system is shutting down")
        connect(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
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


@pytest.fixture
def gateway(postgres: PostgresServer, redis: RedisServer) -> Iterator[Gateway]:
    with (
        HostileCustomer() as customer,
        Gateway(customer_url=customer.url, postgres=postgres, redis=redis, redis_database=7) as running,
    ):
        yield running


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_row_outlives_a_kill_but_not_a_termination(gateway):
    wait_for_both(gateway)
    for kind, prefix in (("worker", "celery@"), ("beat", "beat@")):
        [row] = beats(gateway, kind)
        assert row["name"].startswith(prefix)
        assert_renewed(gateway, kind)

    for kind in ("worker", "beat"):
        gateway.kill(kind)
    before = {kind: beats(gateway, kind)[0] for kind in ("worker", "beat")}
    for kind, row in before.items():
        gateway.spawn(kind)
        wait_until(lambda k=kind, r=row: beats(gateway, k)[0]["started_at"] > r["started_at"], 30, "the next run")
        assert len(beats(gateway, kind)) == 1

    gateway.terminate("worker")
    assert beats(gateway) == []
    gateway.terminate("beat")
    assert beats(gateway, "beat") == []


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
