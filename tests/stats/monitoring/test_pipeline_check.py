"""The check of the pipeline as a whole: from the database to incidents, by any running process."""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from delivery.control.pause import pause_delivery
from delivery.models import DeliveryControl
from leads.models import LeadStatus
from stats.models import Heartbeat, HourlyStatistics, Incident, MonitoringState
from stats.monitoring import monitor_thread, pipeline_check
from stats.monitoring.checks.pipeline import take_snapshot
from stats.monitoring.monitor_thread import DatabaseOutage, MonitorThread
from stats.monitoring.pipeline_check import run_if_due
from tests import make
from tests.make import NOON
from tests.processes import wait_until
from tests.stats.monitoring.receivers import Hook, hook

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

pytestmark = pytest.mark.django_db


def heartbeat(now: datetime, *kinds: str) -> None:
    for kind in kinds:
        row = {"kind": kind, "started_at": now - HOUR, "seen_at": now}
        Heartbeat.objects.update_or_create(name=kind, defaults=row)


def open_now() -> set[str]:
    return set(Incident.objects.filter(closed_at=None).values_list("kind", flat=True))


# --- the snapshot ----------------------------------------------------------------------------------------------------


def test_an_empty_gateway_has_a_snapshot() -> None:
    snapshot = take_snapshot(now=NOON)

    assert (snapshot.processes, snapshot.late, snapshot.attempts.finished, snapshot.sources) == ([], 0, 0, ())
    assert snapshot.queue_depth is not None


def test_while_a_web_process_starts_the_others_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts() -> dict[str, str]:
        return {result.check: result.verdict for result in pipeline_check.current_results(now=NOON)}

    assert (verdicts()["no_worker"], verdicts()["no_beat"]) == ("failure", "failure")
    monkeypatch.setattr("stats.monitoring.heartbeat.web_started_at", NOON)
    assert (verdicts()["no_worker"], verdicts()["no_beat"]) == ("unknown", "unknown")
    heartbeat(NOON, "worker")
    assert (verdicts()["no_worker"], verdicts()["no_beat"]) == ("ok", "failure")


def test_unclaimed_due_leads_are_late() -> None:
    make.lead(next_attempt_at=NOON - 6 * MINUTE)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=NOON - 7 * MINUTE, claimed_until=NOON - MINUTE)
    make.lead(next_attempt_at=NOON - 4 * MINUTE)
    make.lead(next_attempt_at=NOON - 9 * MINUTE, claimed_until=NOON + MINUTE)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None)

    snapshot = take_snapshot(now=NOON)

    assert (snapshot.late, snapshot.late_since) == (3, NOON - 7 * MINUTE)


def test_leads_that_wait_on_purpose_are_not_stuck(settings) -> None:
    make.lead(status=LeadStatus.READY, next_attempt_at=NOON - HOUR)
    settings.CUSTOMER_API_RATE_LIMIT = timedelta(seconds=1)
    assert take_snapshot(now=NOON).late == 0

    settings.CUSTOMER_API_RATE_LIMIT = None
    assert take_snapshot(now=NOON).late == 1
    pause_delivery(actor="otto", reason="maintenance", now=NOON)
    assert take_snapshot(now=NOON).late == 0
    make.lead(next_attempt_at=NOON - HOUR)  # can be checked while delivery is paused
    assert take_snapshot(now=NOON).late == 1


def test_recent_finished_attempts_are_counted() -> None:
    make.attempt(requested_at=NOON - MINUTE)
    make.attempt(requested_at=NOON - MINUTE, response_status=200)
    make.attempt(requested_at=NOON - MINUTE, finished_at=None)
    make.attempt(requested_at=NOON - 11 * MINUTE)

    snapshot = take_snapshot(now=NOON)

    assert (snapshot.attempts.finished, snapshot.attempts.failed) == (2, 1)


def test_a_source_has_its_hours_and_its_last_lead() -> None:
    MonitoringState.objects.create(hours_counted_until=NOON - HOUR)
    for source, days in (("a", 1), ("b", 1), ("", 1), ("gone", 8)):
        HourlyStatistics.objects.create(source=source, hour=NOON - timedelta(days=days), accepted=3)
    make.lead(source="a", received_at=NOON - 5 * MINUTE)
    make.lead(source="new", received_at=NOON - 5 * MINUTE)
    make.lead(received_at=NOON - 6 * MINUTE)

    sources = take_snapshot(now=NOON).sources

    yesterday = NOON - timedelta(days=1)
    assert [(source.name, source.last_at) for source in sources] == [
        ("", NOON - 6 * MINUTE),
        ("a", NOON - 5 * MINUTE),
        ("b", yesterday + HOUR),
    ]
    assert sources[1].hours == {yesterday: 3}


# --- from check to check ---------------------------------------------------------------------------------------------


def test_a_failure_becomes_an_incident_and_ends() -> None:
    control = DeliveryControl.objects.create(circuit_opened_at=NOON, next_probe_at=NOON)
    heartbeat(NOON, "worker", "beat")
    run_if_due(now=NOON)
    assert open_now() == {"customer_down"}

    control.delete()
    for minute in (1, 2, 3):
        heartbeat(NOON + minute * MINUTE, "beat")
        run_if_due(now=NOON + minute * MINUTE)

    assert open_now() == {"no_worker"}


@pytest.mark.django_db(transaction=True)
def test_a_second_check_within_the_interval_is_skipped() -> None:
    assert run_if_due(now=NOON)
    assert not run_if_due(now=NOON + 0.7 * MINUTE)
    assert run_if_due(now=NOON + 0.9 * MINUTE)

    MonitorThread().check_if_overdue(now=NOON + 2.3 * MINUTE)
    assert MonitoringState.objects.get().checked_at == NOON + 0.9 * MINUTE
    MonitorThread().check_if_overdue(now=NOON + 2.5 * MINUTE)
    assert MonitoringState.objects.get().checked_at == NOON + 2.5 * MINUTE


@pytest.mark.django_db(transaction=True)
def test_the_monitor_checks_repeatedly_until_it_is_stopped(settings) -> None:
    settings.MONITORING_INTERVAL = timedelta(milliseconds=100)
    monitor = monitor_thread.start()
    try:
        wait_until(lambda: MonitoringState.objects.filter(checked_at__isnull=False), 10, "a check")
        first = MonitoringState.objects.get().checked_at
        wait_until(lambda: MonitoringState.objects.get().checked_at > first, 10, "another")
        assert first is not None
        assert timezone.now() - first < MINUTE
    finally:
        monitor.stop()
        monitor.join(10)
    assert not monitor.is_alive()


# --- without the database --------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(settings) -> Iterator[Hook]:
    with hook() as found:
        settings.ALERT_WEBHOOK_URL = found.url
        yield found


@pytest.fixture
def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that makes the database unavailable to monitors while it is not empty."""
    unavailable: list[str] = []

    connect = BaseDatabaseWrapper.ensure_connection

    def refuse(self: BaseDatabaseWrapper) -> None:
        if unavailable:
            raise OperationalError("the database system is shutting down")
        connect(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    return unavailable


def test_beats_monitor_alerts_the_outage_of_the_database_and_its_end(
    receiver: Hook, database: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat(NOON + HOUR, "worker", "beat")
    monitor, minutes = MonitorThread(DatabaseOutage()), itertools.count()

    def check(times: int = 1) -> None:
        for _ in range(times):
            monitor.check_if_overdue(now=NOON + 2 * next(minutes) * MINUTE)

    check()
    database.append("unavailable")
    check()
    assert receiver.posts == [], "one failure is not enough"
    receiver.status = 503
    check()
    receiver.status = 200
    check(3)
    [post] = receiver.posts
    assert post["text"].startswith("Lead Gateway: The database cannot be reached.")
    assert caplog.text.count("incident_opened") == 1

    database.clear()
    check(3)

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


def test_no_other_monitor_alerts_an_outage_of_the_database(receiver: Hook, database: list[str]) -> None:
    database.append("unavailable")
    for minute in range(4):
        MonitorThread().check_if_overdue(now=NOON + minute * MINUTE)

    assert receiver.posts == []
