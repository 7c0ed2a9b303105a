"""Incidents: opened after enough failures of a check in a row, closed after enough good results in a row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.db import transaction

from leadgateway.logging import get_logger
from stats.models import Alert, Incident, MonitoringState
from stats.monitoring.checks.pipeline import CLOSES_AFTER, OPENS_AFTER, IncidentKind
from stats.monitoring.checks.result import CheckResult, Verdict

log = get_logger(__name__)


def update(
    results: Iterable[CheckResult],
    *,
    now: datetime,
    channels: Sequence[Alert.Channel] = (),
    opens_after: Mapping[str, int] = OPENS_AFTER,
    closes_after: int = CLOSES_AFTER,
) -> None:
    """Open, continue and close incidents by the results of a check, and create their alerts.

    :param channels: the channels to alert.
    """
    by_key = {(result.check, result.subject): result for result in results}
    with transaction.atomic():
        state, _ = MonitoringState.objects.select_for_update().get_or_create(pk=1)
        open_incidents = {(each.kind, each.subject): each for each in Incident.objects.filter(closed_at=None)}
        for key, incident in open_incidents.items():
            _continue(incident, by_key.get(key), now=now)
            if incident.good_checks >= closes_after:
                incident.closed_at = now
                _create_alerts(incident, channels, is_recovery=True)
            incident.save(update_fields=["last_seen_at", "good_checks", "detail", "closed_at"])
        failing = {}
        for key, result in by_key.items():
            if result.verdict is Verdict.FAILURE and key not in open_incidents:
                failures = int(state.failing_checks.get("|".join(key), 0)) + 1
                if failures >= opens_after.get(result.check, 1):
                    _open(result, now=now, channels=channels)
                else:
                    failing["|".join(key)] = failures
        state.failing_checks = failing
        state.save(update_fields=["failing_checks"])


def _continue(incident: Incident, result: CheckResult | None, *, now: datetime) -> None:
    """Update an open incident. A check that has no result any more, such as of a gone source, is good."""
    if result is not None and result.verdict is Verdict.FAILURE:
        incident.last_seen_at, incident.good_checks, incident.detail = now, 0, dict(result.facts)
    elif result is None or result.verdict is not Verdict.UNKNOWN:
        incident.good_checks += 1


def _open(result: CheckResult, *, now: datetime, channels: Sequence[Alert.Channel]) -> None:
    incident = Incident.objects.create(
        kind=result.check, subject=result.subject, opened_at=now, last_seen_at=now, detail=dict(result.facts)
    )
    _create_alerts(incident, channels, is_recovery=False)


def record_past_incident(
    kind: IncidentKind, *, opened_at: datetime, closed_at: datetime, alerted: Sequence[Alert.Channel]
) -> None:
    """Store an incident that could not be stored while it lasted, and create the alerts of its recovery.

    :param alerted: the channels that were alerted when it began.
    """
    with transaction.atomic():
        incident = Incident.objects.create(
            kind=kind, opened_at=opened_at, last_seen_at=closed_at, closed_at=closed_at, good_checks=1
        )
        for channel in alerted:
            Alert.objects.create(incident=incident, channel=channel, is_recovery=False, sent_at=opened_at)
        _create_alerts(incident, alerted, is_recovery=True)


def log_change(incident: Incident, *, is_recovery: bool) -> None:
    """Log that an incident was opened, or closed."""
    identity = {"kind": str(incident.kind), "subject": incident.subject or None}
    if is_recovery and incident.closed_at is not None:
        lasted = incident.closed_at - incident.opened_at
        log.warning("incident_closed", **identity, lasted_s=round(lasted.total_seconds()))
    else:
        log.error("incident_opened", **identity, **incident.detail)


def _create_alerts(incident: Incident, channels: Sequence[Alert.Channel], *, is_recovery: bool) -> None:
    """Create the alerts of a change, and log the change after the commit."""
    Alert.objects.bulk_create(
        Alert(incident=incident, channel=channel, is_recovery=is_recovery) for channel in channels
    )
    transaction.on_commit(lambda: log_change(incident, is_recovery=is_recovery), robust=True)
