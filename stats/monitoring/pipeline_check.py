"""The check of the pipeline: takes a snapshot, judges it, updates incidents and sends alerts.

Beat's task, and the monitor thread of every process, run it. Only one of them does so per interval.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from leadgateway import db
from leadgateway.dependencies import database_problem
from leadgateway.time_format import span
from stats.models import Incident, MonitoringState
from stats.monitoring import alerts, heartbeat, incidents
from stats.monitoring.checks.pipeline import IncidentKind, evaluate, take_snapshot
from stats.monitoring.checks.result import CheckResult, Verdict, failure, ok, warning

#: How long one step may wait for the database.
_DATABASE_TIMEOUT = timedelta(seconds=10)

#: The shortest time without a check that is a failure.
_MIN_CHECK_GAP = timedelta(seconds=30)


def current_results(*, now: datetime) -> list[CheckResult]:
    """Return the results of the checks of the pipeline, good ones included.

    :raises django.db.Error: the database is unavailable.
    """
    return evaluate(take_snapshot(now=now))


def run_if_due(*, now: datetime, after: float = 0.8) -> bool:
    """Check the pipeline unless another process did within `after` intervals; return whether it was checked.

    The default is a little less than 1, because beat's ticks are not exact.

    :raises django.db.Error: the database is unavailable.
    """
    with db.deadline(_DATABASE_TIMEOUT):
        if not claim_check(now, after=after * settings.MONITORING_INTERVAL):
            return False
        incidents.update(current_results(now=now), now=now, channels=alerts.configured_channels())
    alerts.send_due(now=now)
    return True


def claim_check(now: datetime, *, after: timedelta) -> bool:
    """Claim the right to check, `after` the last check; return whether this process got it."""
    MonitoringState.objects.get_or_create(pk=1)
    due = Q(checked_at=None) | Q(checked_at__lte=now - after)
    return MonitoringState.objects.filter(due, pk=1).update(checked_at=now) == 1


# --- for the commands ------------------------------------------------------------------------------------------------


def status() -> Iterator[CheckResult]:
    """Return the current results, the incidents that are about to close, and the age of the last check."""
    if problem := database_problem():
        private = {"error": problem}
        yield CheckResult(IncidentKind.DATABASE_UNAVAILABLE, Verdict.FAILURE, private_facts=private)
        return
    now = timezone.now()
    results = current_results(now=now)
    yield from results
    yield from _closing_incidents(results, now=now)
    yield _last_check(now=now)


def _closing_incidents(results: list[CheckResult], *, now: datetime) -> Iterator[CheckResult]:
    failing = {(result.check, result.subject) for result in results if result.verdict is Verdict.FAILURE}
    for incident in Incident.objects.filter(closed_at=None).order_by("pk"):
        if (incident.kind, incident.subject) not in failing:
            name = f"{incident.kind} {incident.subject}".rstrip()
            yield warning("open_incident", incident=name, open_for=span(now - incident.opened_at))


def _last_check(*, now: datetime) -> CheckResult:
    """Return whether the pipeline is checked regularly, which the check itself cannot detect."""
    checked_at = MonitoringState.objects.filter(pk=1).values_list("checked_at", flat=True).first()
    max_gap = max(3 * settings.MONITORING_INTERVAL, _MIN_CHECK_GAP)
    if checked_at is not None and now - checked_at <= max_gap:
        return ok("last_check", gap=span(now - checked_at))
    started_at = heartbeat.running_since(heartbeat.recent_processes(now=now), now=now)
    if started_at is not None and now - started_at <= max_gap:
        return CheckResult("last_check", Verdict.UNKNOWN, facts={"code": "starting"})
    return (
        warning("last_check", code="never") if checked_at is None else failure("last_check", gap=span(now - checked_at))
    )
