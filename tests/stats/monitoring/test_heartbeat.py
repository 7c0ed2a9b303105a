"""Whether workers and beat are seen to live, and to die: rows of this process, and of real ones."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from stats.models import Heartbeat
from stats.monitoring import heartbeat
from stats.monitoring.heartbeat import HeartbeatThread
from tests.e2e.gateway import Gateway, Row
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

NOW = datetime(2026, 1, 21, 15, 42, tzinfo=UTC)
QUICK = timedelta(milliseconds=50)
WORKER, BEAT = Heartbeat.Kind.WORKER, Heartbeat.Kind.BEAT


def seen(*, ago: timedelta, name: str = "celery@host", kind: Heartbeat.Kind = WORKER) -> Heartbeat:
    return Heartbeat(name=name, kind=kind, started_at=NOW - timedelta(days=9), seen_at=NOW - ago)


# --- who lives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "expected"), [(0, True), (30, True), (31, False)])
def test_who_was_seen_in_the_last_30_seconds_is_alive(seconds, expected):
    assert heartbeat.is_alive(seen(ago=timedelta(seconds=seconds)), now=NOW) is expected


@pytest.mark.parametrize(("minutes", "expected"), [(3, True), (4, False)])
def test_beat_may_sleep_from_one_tick_to_the_next(settings, minutes, expected):
    settings.WORKER_POLL_INTERVAL = timedelta(minutes=1)

    assert heartbeat.is_alive(seen(ago=timedelta(minutes=minutes), kind=BEAT), now=NOW) is expected


@pytest.mark.django_db
def test_the_dead_are_known_for_a_day():
    seen(ago=timedelta(hours=25), name="celery@long-gone").save()
    seen(ago=timedelta(hours=23), name="celery@gone").save()
    seen(ago=timedelta(seconds=1), name="beat@here", kind=BEAT).save()

    assert [process.name for process in heartbeat.known(now=NOW)] == ["beat@here", "celery@gone"]


# --- a row of this process -------------------------------------------------------------------------------------------


@pytest.fixture
def pulses(transactional_db: None) -> Iterator[list[HeartbeatThread]]:
    made: list[HeartbeatThread] = []
    yield made
    for pulse in made:
        pulse.end()


@pytest.fixture
def start(pulses):
    """A function that starts a quick pulse."""

    def started(
        name: str = "celery@host", *, worked: threading.Event | None = None, every: timedelta = QUICK
    ) -> HeartbeatThread:
        pulse = HeartbeatThread(name, BEAT if worked else WORKER, every=every, worked=worked)
        pulse.start()
        pulses.append(pulse)
        return pulse

    return started


def rows() -> list[Heartbeat]:
    return list(Heartbeat.objects.order_by("name"))


def test_a_row_is_there_while_the_process_lives_and_renewed(start):
    pulse = start()
    wait_until(rows, 5, "the row")
    [first] = rows()
    wait_until(lambda: rows()[0].seen_at > first.seen_at, 5, "the row to be renewed")
    [second] = rows()
    assert (second.name, second.kind, second.started_at) == ("celery@host", "worker", first.started_at)

    pulse.end()

    assert rows() == []


def test_a_row_is_renewed_only_when_the_process_has_done_its_work(start):
    worked = threading.Event()
    start("beat@host", worked=worked)
    threading.Event().wait(0.3)
    assert rows() == []

    worked.set()
    wait_until(rows, 5, "the row")
    [first] = rows()
    threading.Event().wait(0.3)

    assert [row.seen_at for row in rows()] == [first.seen_at]


def test_the_successor_by_the_same_name_keeps_its_row(start):
    predecessor = start(every=timedelta(hours=1))
    wait_until(rows, 5, "the row")
    start(every=timedelta(hours=1))
    wait_until(lambda: rows()[0].started_at > predecessor._started_at, 5, "the row to be taken over")

    predecessor.end()

    assert [row.name for row in rows()] == ["celery@host"]


def test_starting_forgets_who_has_been_gone_for_a_day(start):
    Heartbeat.objects.create(name="celery@gone", kind=WORKER, started_at=NOW, seen_at=NOW - timedelta(days=1))
    late = timezone.now() - timedelta(hours=23)
    Heartbeat.objects.create(name="celery@late", kind=WORKER, started_at=late, seen_at=late)

    start()
    wait_until(lambda: Heartbeat.objects.filter(name="celery@host"), 5, "the row")

    assert [row.name for row in rows()] == ["celery@host", "celery@late"]


def test_a_name_that_is_too_long_is_cut(start):
    start("celery@" + "x" * 300)

    wait_until(rows, 5, "the row")


def test_a_database_that_is_away_is_logged_once_and_outlived(start, caplog, monkeypatch):
    renew, away = HeartbeatThread._renew, threading.Event()
    away.set()

    def failing(self):
        if away.is_set():
            raise OperationalError("the database system is shutting down")
        renew(self)

    monkeypatch.setattr(HeartbeatThread, "_renew", failing)
    start()
    threading.Event().wait(0.4)
    assert caplog.text.count("heartbeat_not_written") == 1

    away.clear()
    wait_until(rows, 5, "the row")
    assert caplog.text.count("heartbeat_written_again") == 1


# --- real processes --------------------------------------------------------------------------------------------------


def beats(gateway: Gateway, kind: str = "worker") -> list[Row]:
    return gateway.rows(f"SELECT * FROM heartbeat WHERE kind = '{kind}' ORDER BY name")


def wait_for_both(gateway: Gateway) -> None:
    wait_until(lambda: beats(gateway) and beats(gateway, "beat"), 15, "worker and beat to be seen")


def assert_silent(gateway: Gateway, *kinds: str) -> None:
    """The rows are there, and not renewed in a time in which those of living processes would have been."""
    before = [beats(gateway, kind) for kind in kinds]
    threading.Event().wait(heartbeat.EVERY.total_seconds() + 2)
    assert [beats(gateway, kind) for kind in kinds] == before
    assert all(before)


def assert_seen_again(gateway: Gateway, kind: str) -> None:
    [before] = beats(gateway, kind)
    wait_until(lambda: beats(gateway, kind)[0]["seen_at"] > before["seen_at"], 30, f"{kind} to be seen again")


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, redis: RedisServer) -> Iterator[Gateway]:
    with (
        DemoCustomer() as customer,
        Gateway(customer_url=customer.url, postgres=postgres, redis=redis, redis_database=7) as running,
    ):
        yield running


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_worker_and_beat_are_seen_until_they_end_in_order(gateway):
    wait_for_both(gateway)
    [worker], [beat] = beats(gateway), beats(gateway, "beat")
    assert worker["name"].startswith("celery@")
    assert beat["name"].startswith("beat@")
    assert_seen_again(gateway, "worker")
    assert_seen_again(gateway, "beat")

    gateway.terminate("worker")
    assert beats(gateway) == []
    gateway.terminate("beat")
    assert beats(gateway, "beat") == []

    gateway.spawn("worker")
    gateway.spawn("beat")
    wait_for_both(gateway)


@pytest.mark.e2e
@pytest.mark.timeout(150)
def test_who_is_killed_falls_silent_and_its_next_run_takes_the_row_over(gateway):
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
def test_who_is_frozen_falls_silent_until_it_goes_on(gateway):
    wait_for_both(gateway)
    frozen = [gateway.running(kind)[0] for kind in ("worker", "beat")]
    try:
        for process in frozen:
            process.freeze()
        assert_silent(gateway, "worker", "beat")
    finally:
        for process in frozen:
            process.thaw()

    assert_seen_again(gateway, "worker")
    assert_seen_again(gateway, "beat")


@pytest.mark.e2e
@pytest.mark.faults
@pytest.mark.timeout(180)
def test_a_worker_whose_database_was_away_comes_back_and_a_beat_without_a_queue_is_silent():
    with (
        PostgresServer(durable=True) as database,
        RedisServer() as broker,
        DemoCustomer() as customer,
        Gateway(postgres=database, redis=broker, customer_url=customer.url) as gateway,
    ):
        wait_for_both(gateway)
        database.stop()
        threading.Event().wait(12)  # several heartbeats fail, one is told of
        database.start()
        assert_seen_again(gateway, "worker")
        assert_seen_again(gateway, "beat")
        assert gateway.logs("worker").count("heartbeat_not_written") == 1

        broker.stop()
        threading.Event().wait(4)  # what was published before may still be told
        assert_silent(gateway, "beat")
        broker.start()
        assert_seen_again(gateway, "beat")
