"""Reads the numbers that the checks of the pipeline judge: a handful of short queries, and the depth of the queue."""

from collections import defaultdict
from datetime import datetime, timedelta

from django.db.models import Max

from delivery.models import DeliveryAttempt, DeliveryControl
from leads.models import InboundLead
from stats.models import Heartbeat, HourlyStatistics, ProcessKind
from stats.monitoring import counting, heartbeat, hourly
from stats.monitoring.checks.pipeline import Snapshot, SourceActivity, Thresholds

#: A source without leads for this long is taken to have stopped for good.
FORGOTTEN_AFTER = timedelta(days=7)


def take_snapshot(*, now: datetime, thresholds: Thresholds) -> Snapshot:
    """Return the numbers of this moment. An unavailable queue costs its time-out.

    :raises django.db.Error: the database is unavailable.
    """
    control = DeliveryControl.objects.current()
    late = counting.overdue_leads(control, now=now, after=thresholds.late_after)
    attempts = counting.count_attempts(
        DeliveryAttempt.objects.filter(requested_at__gte=now - thresholds.attempts_within)
    )
    processes = heartbeat.recent_processes(now=now)
    workers, worker_seen_at = _running(processes, ProcessKind.WORKER, now=now)
    beats, beat_seen_at = _running(processes, ProcessKind.BEAT, now=now)
    return Snapshot(
        taken_at=now,
        queue_depth=counting.queue_depth(),
        workers=workers,
        worker_seen_at=worker_seen_at,
        beats=beats,
        beat_seen_at=beat_seen_at,
        started_at=heartbeat.running_since(processes, now=now),
        late=late.leads,
        late_since=late.since,
        attempts=attempts.finished,
        failed=attempts.failed,
        circuit_opened_at=control.circuit_opened_at,
        paused_at=control.paused_at,
        paused_by=control.paused_by or "",
        pause_reason=control.pause_reason or "",
        waiting=InboundLead.objects.due(now).count() if control.is_blocked else 0,
        sources=tuple(_sources(now)),
    )


def _running(processes: list[Heartbeat], kind: ProcessKind, *, now: datetime) -> tuple[int, datetime | None]:
    """Return how many processes of a kind are running, and when the last of them was seen."""
    of_kind = [process for process in processes if process.kind == kind]
    running = sum(heartbeat.is_running(process, now=now) for process in of_kind)
    return running, max((process.seen_at for process in of_kind), default=None)


def _sources(now: datetime) -> list[SourceActivity]:
    """Return the sources that sent leads in the last week, from the hourly statistics and the leads since."""
    until = hourly.counted_until()
    if until is None:
        return []
    hours: dict[str, dict[datetime, int]] = defaultdict(dict)
    past = HourlyStatistics.objects.filter(hour__gt=now - 2 * FORGOTTEN_AFTER, accepted__gt=0)
    for source, hour, accepted in past.values_list("source", "hour", "accepted").iterator():
        hours[source][hour] = accepted
    last_at = {source: max(counted) + hourly.HOUR for source, counted in hours.items()} | _last_leads(since=until)
    return [
        SourceActivity(source, last, hours[source])
        for source, last in sorted(last_at.items())
        if source in hours and last > now - FORGOTTEN_AFTER
    ]


def _last_leads(*, since: datetime) -> dict[str, datetime]:
    received = InboundLead.objects.filter(received_at__gte=since).order_by().values_list("source")
    return {source or "": last for source, last in received.annotate(last=Max("received_at"))}
