"""Reads the figures that the rules judge: a handful of short queries, and one look at the queue."""

from collections import defaultdict
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q

from delivery.configuration import limits
from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt, DeliveryControl
from leadgateway import queue
from leads.models import InboundLead, LeadStatus
from stats.models import Heartbeat, HourlyStatistics
from stats.monitoring import heartbeat, hourly
from stats.monitoring.rules import Snapshot, Source, Thresholds

#: Who has sent nothing for so long counts as one that does not send any more.
FORGOTTEN_AFTER = timedelta(days=7)


def take_snapshot(*, now: datetime, thresholds: Thresholds) -> Snapshot:
    """Return the figures of this moment; a queue that is away costs its bounded wait.

    :raises django.db.Error: the database is away.
    """
    gate = DeliveryControl.objects.current()
    stuck, stuck_since = _stuck(gate, now=now, after=thresholds.stuck_after)
    attempts, failed = _attempts(since=now - thresholds.attempts_within)
    workers, worker_seen_at = _processes(Heartbeat.Kind.WORKER, now=now)
    beats, beat_seen_at = _processes(Heartbeat.Kind.BEAT, now=now)
    return Snapshot(
        at=now,
        queue_depth=_queue_depth(),
        workers=workers,
        worker_seen_at=worker_seen_at,
        beats=beats,
        beat_seen_at=beat_seen_at,
        stuck=stuck,
        stuck_since=stuck_since,
        attempts=attempts,
        failed=failed,
        circuit_opened_at=gate.circuit_opened_at,
        paused_at=gate.paused_at,
        sources=tuple(_sources(now)),
    )


def _queue_depth() -> int | None:
    try:
        return queue.depth()
    except queue.QueueUnavailable:
        return None


def _processes(kind: Heartbeat.Kind, *, now: datetime) -> tuple[int, datetime | None]:
    known = [process for process in heartbeat.known(now=now) if process.kind == kind]
    alive = sum(heartbeat.is_alive(process, now=now) for process in known)
    return alive, max((process.seen_at for process in known), default=None)


def _stuck(gate: DeliveryControl, *, now: datetime, after: timedelta) -> tuple[int, datetime | None]:
    """Count leads that wait too long; those that wait for the gate, or for their turn, are not stuck."""
    late = InboundLead.objects.due(now).filter(next_attempt_at__lt=now - after)
    if gate.is_blocked or limits().exist:
        late = late.filter(status=LeadStatus.RECEIVED)
    found = late.aggregate(leads=Count("*"), since=Min("next_attempt_at"))
    return found["leads"], found["since"]


def _attempts(*, since: datetime) -> tuple[int, int]:
    known = DeliveryAttempt.objects.filter(~OUTCOME_UNKNOWN, requested_at__gte=since)
    found = known.aggregate(attempts=Count("*"), failed=Count("pk", filter=Q(success=False)))
    return found["attempts"], found["failed"]


# --- who sends -------------------------------------------------------------------------------------------------------


def _sources(now: datetime) -> list[Source]:
    """Return who has sent something lately, from the hourly statistics and what came since."""
    until = hourly.counted_until()
    if until is None:
        return []
    hours: dict[str, dict[datetime, int]] = defaultdict(dict)
    past = HourlyStatistics.objects.filter(hour__gt=now - 2 * FORGOTTEN_AFTER, accepted__gt=0)
    for source, hour, accepted in past.values_list("source", "hour", "accepted").iterator():
        hours[source][hour] = accepted
    last_at = {source: max(counted) + hourly.HOUR for source, counted in hours.items()} | _latest(since=until)
    return [
        Source(source, last, hours[source])
        for source, last in sorted(last_at.items())
        if source in hours and last > now - FORGOTTEN_AFTER
    ]


def _latest(*, since: datetime) -> dict[str, datetime]:
    came = InboundLead.objects.filter(received_at__gte=since).order_by().values_list("source")
    return {source or "": last for source, last in came.annotate(last=Max("received_at"))}
