"""Incidents: opened when a check finds something bad, closed when enough checks in a row find it well."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from leadgateway.logging import get_logger
from stats.models import Alert, Incident, MonitoringState
from stats.monitoring.rules import CheckResult, Kind, Thresholds, Verdict

log = get_logger(__name__)

#: What is wrong, and with what exactly.
Key = tuple[str, str]


def take_in(
    results: Iterable[CheckResult], *, now: datetime, thresholds: Thresholds, channels: Sequence[Alert.Channel] = ()
) -> None:
    """Open, carry on and close incidents by what a check has found, and put down whom to tell of it.

    :param channels: by which people are told.
    """
    found = {(result.kind.value, result.subject): result for result in results}
    with transaction.atomic():
        watch, _ = MonitoringState.objects.select_for_update().get_or_create(pk=1)
        already_open = {(each.kind, each.subject): each for each in Incident.objects.filter(closed_at=None)}
        for key, incident in already_open.items():
            _carry_on(incident, found.get(key), now=now, thresholds=thresholds, channels=channels)
        bad = {key: each for key, each in found.items() if each.verdict is Verdict.BAD and key not in already_open}
        watch.suspected = {
            _name(key): checks
            for key, result in bad.items()
            if (checks := _open_in_time(result, watch, now=now, thresholds=thresholds, channels=channels))
        }
        watch.save(update_fields=["suspected"])


def write_down(kind: Kind, *, opened_at: datetime, closed_at: datetime, told: Sequence[Alert.Channel]) -> None:
    """Write an incident down that is over, since it could not be while it lasted; who was told of it is told that too.

    :param told: the channels by which its beginning was told.
    """
    with transaction.atomic():
        incident = Incident.objects.create(
            kind=kind, opened_at=opened_at, last_seen_at=closed_at, closed_at=closed_at, good_checks=1
        )
        for channel in told:
            Alert.objects.create(incident=incident, channel=channel, is_over=False, sent_at=opened_at)
        _tell(incident, told, is_over=True)


def _open_in_time(
    result: CheckResult,
    watch: MonitoringState,
    *,
    now: datetime,
    thresholds: Thresholds,
    channels: Sequence[Alert.Channel],
) -> int:
    """Open an incident if it was found often enough, else return how often it was."""
    checks = int(watch.suspected.get(_name((result.kind, result.subject)), 0)) + 1
    if not thresholds.opens(result.kind, checks):
        return checks
    incident = Incident.objects.create(
        kind=result.kind, subject=result.subject, opened_at=now, last_seen_at=now, detail=result.facts
    )
    _tell(incident, channels, is_over=False)
    return 0


def _carry_on(
    incident: Incident,
    result: CheckResult | None,
    *,
    now: datetime,
    thresholds: Thresholds,
    channels: Sequence[Alert.Channel],
) -> None:
    """Note that it is still there, or that it was not seen. What is not judged any more has gone."""
    verdict = Verdict.GOOD if result is None else result.verdict
    if result is not None and verdict is Verdict.BAD:
        incident.last_seen_at, incident.good_checks, incident.detail = now, 0, result.facts
    elif verdict is Verdict.GOOD:
        incident.good_checks += 1
    if incident.good_checks >= thresholds.closes_after:
        incident.closed_at = now
        _tell(incident, channels, is_over=True)
    incident.save(update_fields=["last_seen_at", "good_checks", "detail", "closed_at"])


def _tell(incident: Incident, channels: Sequence[Alert.Channel], *, is_over: bool) -> None:
    """Put down whom to tell, and write it into the log once it is true."""
    Alert.objects.bulk_create(Alert(incident=incident, channel=channel, is_over=is_over) for channel in channels)
    transaction.on_commit(lambda: log_change(incident, is_over=is_over), robust=True)


def log_change(incident: Incident, *, is_over: bool) -> None:
    """Write the line of an incident that begins, or is over."""
    about = {"kind": str(incident.kind), "subject": incident.subject or None}
    if is_over and incident.closed_at is not None:
        lasted = incident.closed_at - incident.opened_at
        log.warning("incident_closed", **about, lasted_s=round(lasted.total_seconds()))
    else:
        log.error("incident_opened", **about, **incident.detail)


def _name(key: Key) -> str:
    return "|".join(key)
