"""The check as a whole: from the database to incidents, by whoever lives."""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from delivery.control.pause import pause_delivery
from delivery.models import DeliveryControl
from leads.models import LeadStatus
from stats.models import Heartbeat, HourlyStatistics, Incident, MonitoringState
from stats.monitoring import monitor_thread
from stats.monitoring import pipeline_check as checking
from stats.monitoring.monitor_thread import MonitorThread, Outage
from stats.monitoring.pipeline_check import THRESHOLDS, check
from stats.monitoring.snapshot import take_snapshot
from tests import make
from tests.make import NOON
from tests.processes import wait_until
from tests.stats.monitoring.receivers import Hook, hook

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

pytestmark = pytest.mark.django_db


def alive(now: datetime, *kinds: str) -> None:
    for kind in kinds:
        Heartbeat.objects.update_or_create(name=kind, defaults={"kind": kind, "started_at": now, "seen_at": now})


def open_now() -> set[str]:
    return set(Incident.objects.filter(closed_at=None).values_list("kind", flat=True))


# --- the figures -----------------------------------------------------------------------------------------------------


def test_an_empty_gateway_has_figures() -> None:
    seen = take_snapshot(now=NOON, thresholds=THRESHOLDS)

    assert (seen.workers, seen.beats, seen.stuck, seen.attempts, seen.sources) == (0, 0, 0, 0, ())
    assert seen.queue_depth is not None


def test_stuck_is_what_is_due_for_long_and_nobody_has() -> None:
    make.lead(next_attempt_at=NOON - 6 * MINUTE)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=NOON - 7 * MINUTE, claimed_until=NOON - MINUTE)
    make.lead(next_attempt_at=NOON - 4 * MINUTE)
    make.lead(next_attempt_at=NOON - 9 * MINUTE, claimed_until=NOON + MINUTE)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None)

    seen = take_snapshot(now=NOON, thresholds=THRESHOLDS)

    assert (seen.stuck, seen.stuck_since) == (2, NOON - 7 * MINUTE)


def test_who_waits_for_the_gate_or_for_his_turn_is_not_stuck(settings) -> None:
    make.lead(status=LeadStatus.READY, next_attempt_at=NOON - HOUR)
    settings.CUSTOMER_API_RATE_LIMIT = timedelta(seconds=1)
    assert take_snapshot(now=NOON, thresholds=THRESHOLDS).stuck == 0

    settings.CUSTOMER_API_RATE_LIMIT = None
    assert take_snapshot(now=NOON, thresholds=THRESHOLDS).stuck == 1
    pause_delivery(actor="otto", reason="maintenance", now=NOON)
    assert take_snapshot(now=NOON, thresholds=THRESHOLDS).stuck == 0
    make.lead(next_attempt_at=NOON - HOUR)  # that can be checked all the same
    assert take_snapshot(now=NOON, thresholds=THRESHOLDS).stuck == 1


def test_attempts_of_the_last_minutes_are_counted_by_success() -> None:
    make.attempt(requested_at=NOON - MINUTE)
    make.attempt(requested_at=NOON - MINUTE, response_status=200)
    make.attempt(requested_at=NOON - MINUTE, finished_at=None)
    make.attempt(requested_at=NOON - 11 * MINUTE)

    seen = take_snapshot(now=NOON, thresholds=THRESHOLDS)

    assert (seen.attempts, seen.failed) == (2, 1)


def test_a_source_is_known_by_its_hours_and_its_last_lead() -> None:
    MonitoringState.objects.create(counted_until=NOON - HOUR)
    for source, days in (("a", 1), ("b", 1), ("", 1), ("gone", 8)):
        HourlyStatistics.objects.create(source=source, hour=NOON - timedelta(days=days), accepted=3)
    make.lead(source="a", received_at=NOON - 5 * MINUTE)
    make.lead(source="new", received_at=NOON - 5 * MINUTE)
    make.lead(received_at=NOON - 6 * MINUTE)

    sources = take_snapshot(now=NOON, thresholds=THRESHOLDS).sources

    yesterday = NOON - timedelta(days=1)
    assert [(source.name, source.last_at) for source in sources] == [
        ("", NOON - 6 * MINUTE),
        ("a", NOON - 5 * MINUTE),
        ("b", yesterday + HOUR),
    ]
    assert sources[1].hours == {yesterday: 3}


# --- from check to check ---------------------------------------------------------------------------------------------


def test_what_is_wrong_becomes_an_incident_and_ends() -> None:
    gate = DeliveryControl.objects.create(circuit_opened_at=NOON, next_probe_at=NOON)
    alive(NOON, "worker", "beat")
    check(now=NOON)
    assert open_now() == {"customer_down"}

    gate.delete()
    for minute in (1, 2, 3):
        alive(NOON + minute * MINUTE, "beat")
        check(now=NOON + minute * MINUTE)

    assert open_now() == {"no_worker"}


def test_who_comes_too_soon_checks_nothing() -> None:
    assert check(now=NOON)
    assert not check(now=NOON + 0.7 * MINUTE)
    assert check(now=NOON + 0.9 * MINUTE)


@pytest.mark.django_db(transaction=True)
def test_a_watchman_checks_only_when_nobody_else_has() -> None:
    check(now=NOON)
    MonitorThread().look(now=NOON + 1.4 * MINUTE)
    assert MonitoringState.objects.get().checked_at == NOON

    MonitorThread().look(now=NOON + 1.6 * MINUTE)
    assert MonitoringState.objects.get().checked_at == NOON + 1.6 * MINUTE


@pytest.mark.django_db(transaction=True)
def test_a_watchman_looks_again_and_again_until_the_process_ends(settings) -> None:
    settings.MONITORING_INTERVAL = timedelta(milliseconds=100)
    man = monitor_thread.start()
    try:
        wait_until(lambda: MonitoringState.objects.filter(checked_at__isnull=False), 10, "a check")
        first = MonitoringState.objects.get().checked_at
        wait_until(lambda: MonitoringState.objects.get().checked_at > first, 10, "another")
        assert first is not None
        assert timezone.now() - first < MINUTE
    finally:
        man.end()
        man.join(10)
    assert not man.is_alive()


# --- without the database --------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(settings) -> Iterator[Hook]:
    with hook() as found:
        settings.ALERT_WEBHOOK_URL = found.url
        yield found


@pytest.fixture
def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that takes the database away from watchmen while there is something in it."""
    away: list[str] = []

    def is_overdue(*, now: datetime) -> bool:
        if away:
            raise OperationalError("the database system is shutting down")
        return checking.is_overdue(now=now)

    monkeypatch.setattr(monitor_thread, "is_overdue", is_overdue)
    return away


def test_beats_watchman_tells_that_the_database_is_away_and_back(
    receiver: Hook, database: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    alive(NOON + HOUR, "worker", "beat")
    man, minutes = MonitorThread(Outage()), itertools.count()

    def look(times: int = 1) -> None:
        for _ in range(times):
            man.look(now=NOON + 2 * next(minutes) * MINUTE)

    look()
    database.append("away")
    look()
    assert receiver.posts == [], "once may be chance"
    receiver.status = 503
    look()
    receiver.status = 200
    look(3)
    [post] = receiver.posts
    assert post["text"].startswith("Lead Gateway: The database cannot be reached.")
    assert caplog.text.count("incident_opened") == 1

    database.clear()
    look(3)

    [incident] = Incident.objects.all()
    assert (incident.kind, incident.opened_at, incident.closed_at) == (
        "database_unavailable",
        NOON + 4 * MINUTE,
        NOON + 12 * MINUTE,
    )
    assert [(each["kind"], each["status"]) for post in receiver.posts for each in post["incidents"]] == [
        ("database_unavailable", "open"),
        ("database_unavailable", "over"),
    ]


def test_nobody_elses_watchman_tells_of_the_database(receiver: Hook, database: list[str]) -> None:
    database.append("away")
    for minute in range(4):
        MonitorThread().look(now=NOON + minute * MINUTE)

    assert receiver.posts == []
