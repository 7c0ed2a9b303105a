"""The checks of the pipeline: `take_snapshot` reads the numbers, and each function in `CHECKS` judges some of them.

To add a check, add its kind, its number in `Snapshot`, a function and its entry in `CHECKS` here, and its sentences in
`stats.text.incidents`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Count, Max, Min

from delivery.configuration import limits
from delivery.control.limits import NO_LIMITS
from delivery.models import DeliveryAttempt, DeliveryControl
from leadgateway import queue
from leads.models import InboundLead, LeadStatus
from stats.models import Heartbeat, HourlyStatistics, ProcessKind
from stats.monitoring import counting, heartbeat, hourly
from stats.monitoring.checks.result import CheckResult, Verdict

_DAYS_PER_WEEK = 7


class IncidentKind(StrEnum):
    """What can be wrong with the pipeline."""

    DATABASE_UNAVAILABLE = "database_unavailable"
    QUEUE_UNAVAILABLE = "queue_unavailable"
    NO_WORKER = "no_worker"
    NO_BEAT = "no_beat"
    LEADS_STUCK = "leads_stuck"
    DELIVERIES_FAIL = "deliveries_fail"
    CUSTOMER_DOWN = "customer_down"
    DELIVERY_PAUSED = "delivery_paused"
    QUEUE_DEEP = "queue_deep"
    SOURCE_SILENT = "source_silent"


# --- limits ----------------------------------------------------------------------------------------------------------

#: How long after the first process of the gateway the others may start.
STARTS_WITHIN = timedelta(seconds=15)

#: An unclaimed lead that has been due for this long is late. The sweep enqueues it again after 30 s.
LATE_AFTER = timedelta(minutes=1)

#: Late leads are stuck if the first of them has been due for this long.
STUCK_AFTER = timedelta(minutes=5)

#: Deliveries fail if more than FAILING_SHARE of at least MIN_ATTEMPTS attempts within ATTEMPTS_WITHIN failed.
ATTEMPTS_WITHIN = timedelta(minutes=10)
MIN_ATTEMPTS = 5
FAILING_SHARE = 0.5

#: After this long the operator who paused delivery may have forgotten it.
PAUSED_FOR = timedelta(hours=1)

MAX_QUEUE_DEPTH = 1000

#: A source is expected to send now if, in the same hours a week ago, it sent at least MIN_LEADS leads, and some on at
#: least MIN_SENDING_DAYS days of the week. After FORGOTTEN_AFTER without leads it is no longer expected to send.
MIN_LEADS = 5
MIN_SENDING_DAYS = 3
FORGOTTEN_AFTER = timedelta(days=7)

#: Number of failures in a row that open an incident. The default is 1.
OPENS_AFTER: Mapping[str, int] = {
    IncidentKind.DATABASE_UNAVAILABLE: 2,
    IncidentKind.QUEUE_UNAVAILABLE: 2,
    IncidentKind.NO_WORKER: 2,  # a restart takes a moment
    IncidentKind.NO_BEAT: 2,
    IncidentKind.QUEUE_DEEP: 10,
    IncidentKind.SOURCE_SILENT: 10,
}

#: Number of good results in a row that close an incident, so that an intermittent problem is one incident.
CLOSES_AFTER = 2


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceActivity:
    """The leads of one source."""

    name: str
    #: When its last lead was received; the end of the hour if the lead is older than the hourly statistics.
    last_at: datetime
    #: Start of an hour -> number of leads, for the last two weeks.
    hours: Mapping[datetime, int]


@dataclass(frozen=True)
class Snapshot:
    """The numbers that the checks judge, at one moment."""

    taken_at: datetime
    #: Number of enqueued leads, of which a message carries several; None if the queue is unavailable.
    queue_depth: int | None
    #: Those that are running, and those that stopped unexpectedly within the last day.
    processes: Sequence[Heartbeat]
    control: DeliveryControl
    #: Number of leads past LATE_AFTER, and since when the first of them is due.
    late: int
    late_since: datetime | None
    #: Within ATTEMPTS_WITHIN.
    attempts: counting.AttemptCounts
    #: Number of leads that wait because delivery is paused or the customer is down.
    waiting: int = 0
    sources: tuple[SourceActivity, ...] = ()


def take_snapshot(*, now: datetime) -> Snapshot:
    """Return the numbers of this moment. An unavailable queue costs its time-out.

    :raises django.db.Error: the database is unavailable.
    """
    control = DeliveryControl.objects.current()
    return Snapshot(
        taken_at=now,
        queue_depth=_depth(now),
        processes=heartbeat.recent_processes(now=now),
        control=control,
        **_late(control, now=now),
        attempts=counting.count_attempts(DeliveryAttempt.objects.filter(requested_at__gte=now - ATTEMPTS_WITHIN)),
        waiting=InboundLead.objects.due(now).count() if control.is_blocked else 0,
        sources=tuple(_recent_sources(now)),
    )


def _depth(now: datetime) -> int | None:
    try:
        queue.depth()
    except queue.QueueUnavailable:
        return None
    return counting.enqueued_leads(now).count()


def _late(control: DeliveryControl, *, now: datetime) -> dict[str, Any]:
    """Count the late leads. Leads that wait because delivery is paused, the circuit is open or a limit is set are not.

    They can be checked, though, so a lead that has only been received is late even then.
    """
    late = InboundLead.objects.due(now).filter(next_attempt_at__lt=now - LATE_AFTER)
    if control.is_blocked or limits() != NO_LIMITS:
        late = late.filter(status=LeadStatus.RECEIVED)
    return late.aggregate(late=Count("*"), late_since=Min("next_attempt_at"))


def _recent_sources(now: datetime) -> list[SourceActivity]:
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


# --- verdicts --------------------------------------------------------------------------------------------------------


def evaluate(snapshot: Snapshot) -> list[CheckResult]:
    """Return the results of all checks of the pipeline, good ones included."""
    return [result for check in CHECKS for result in check(snapshot)]


def _database(_snapshot: Snapshot) -> Iterator[CheckResult]:
    yield CheckResult(IncidentKind.DATABASE_UNAVAILABLE, Verdict.OK)  # without a database there is no snapshot


def _queue(snapshot: Snapshot) -> Iterator[CheckResult]:
    yield CheckResult(IncidentKind.QUEUE_UNAVAILABLE, _failure_if(snapshot.queue_depth is None))


def _workers(snapshot: Snapshot) -> Iterator[CheckResult]:
    yield _process(IncidentKind.NO_WORKER, ProcessKind.WORKER, snapshot)


def _beat(snapshot: Snapshot) -> Iterator[CheckResult]:
    yield _process(IncidentKind.NO_BEAT, ProcessKind.BEAT, snapshot)


def _process(kind: IncidentKind, process_kind: ProcessKind, snapshot: Snapshot) -> CheckResult:
    """Judge the processes of a kind. While the gateway starts, one of them may be a few seconds behind the others."""
    now = snapshot.taken_at
    processes = [process for process in snapshot.processes if process.kind == process_kind]
    if running := sum(heartbeat.is_running(process, now=now) for process in processes):
        return CheckResult(kind, Verdict.OK, facts={"running": running})
    started_at = heartbeat.running_since(snapshot.processes, now=now) or heartbeat.web_started_at
    is_starting = started_at is not None and now - started_at < STARTS_WITHIN
    last_seen_at = max((process.seen_at for process in processes), default=None)
    verdict = Verdict.UNKNOWN if is_starting else Verdict.FAILURE
    return CheckResult(kind, verdict, facts={"running": 0, **_since(last_seen_at)})


def _late_leads(snapshot: Snapshot) -> Iterator[CheckResult]:
    since = snapshot.late_since
    if since is None:
        verdict = Verdict.OK
    else:
        is_stuck = snapshot.taken_at - since > STUCK_AFTER
        verdict = Verdict.FAILURE if is_stuck else Verdict.WARNING
    yield CheckResult(IncidentKind.LEADS_STUCK, verdict, facts={"leads": snapshot.late, **_since(since)})


def _attempts(snapshot: Snapshot) -> Iterator[CheckResult]:
    """Judge attempts. A few failures, or no attempt at all, prove nothing; a few successes do."""
    finished, failed = snapshot.attempts.finished, snapshot.attempts.failed
    fails = failed > FAILING_SHARE * finished
    is_unknown = finished < MIN_ATTEMPTS and (fails or not finished)
    minutes = round(ATTEMPTS_WITHIN.total_seconds() / 60)
    yield CheckResult(
        IncidentKind.DELIVERIES_FAIL,
        Verdict.UNKNOWN if is_unknown else _failure_if(fails),
        facts={"attempts": finished, "failed": failed, "minutes": minutes},
    )


def _customer(snapshot: Snapshot) -> Iterator[CheckResult]:
    opened_at = snapshot.control.circuit_opened_at
    yield CheckResult(
        IncidentKind.CUSTOMER_DOWN,
        _failure_if(opened_at is not None),
        facts=_since(opened_at),
        private_facts={"waiting": snapshot.waiting},
    )


def _pause(snapshot: Snapshot) -> Iterator[CheckResult]:
    control = snapshot.control
    if control.paused_at is None:
        yield CheckResult(IncidentKind.DELIVERY_PAUSED, Verdict.OK)
        return
    is_long = snapshot.taken_at - control.paused_at >= PAUSED_FOR
    yield CheckResult(
        IncidentKind.DELIVERY_PAUSED,
        Verdict.FAILURE if is_long else Verdict.WARNING,
        facts=_since(control.paused_at),
        private_facts={"by": control.paused_by, "reason": control.pause_reason, "waiting": snapshot.waiting},
    )


def _queue_depth(snapshot: Snapshot) -> Iterator[CheckResult]:
    depth = snapshot.queue_depth
    if depth is None:
        yield CheckResult(IncidentKind.QUEUE_DEEP, Verdict.UNKNOWN)
    else:
        yield CheckResult(IncidentKind.QUEUE_DEEP, _failure_if(depth > MAX_QUEUE_DEPTH), facts={"depth": depth})


def _sources(snapshot: Snapshot) -> Iterator[CheckResult]:
    for source in snapshot.sources:
        week = [_hours_before(source, snapshot.taken_at, days) for days in range(1, _DAYS_PER_WEEK + 1)]
        a_week_ago = sum(week[-1].values())
        sending_days = {hour.date() for hours in week for hour in hours}
        is_silent = a_week_ago >= MIN_LEADS and len(sending_days) >= MIN_SENDING_DAYS
        facts = {**_since(source.last_at), "a_week_ago": a_week_ago}
        yield CheckResult(IncidentKind.SOURCE_SILENT, _failure_if(is_silent), source.name, facts)


def _hours_before(source: SourceActivity, now: datetime, days: int) -> dict[datetime, int]:
    """Return the leads in the hours that lie `days` days before the time since the source's last lead.

    A source that sends nothing at night or on Sundays has no leads in those hours, so it is not expected then. Only
    whole hours count, because the statistics do not say when within its hour a lead was received.
    """
    start, end = source.last_at - timedelta(days=days), now - timedelta(days=days)
    return {hour: leads for hour, leads in source.hours.items() if start <= hour and hour + hourly.HOUR <= end}


def _failure_if(is_failure: bool) -> Verdict:
    return Verdict.FAILURE if is_failure else Verdict.OK


def _since(moment: datetime | None) -> dict[str, Any]:
    return {} if moment is None else {"since": moment.isoformat(timespec="seconds")}


#: In the order in which they are shown.
CHECKS: tuple[Callable[[Snapshot], Iterable[CheckResult]], ...] = (
    _database,
    _queue,
    _workers,
    _beat,
    _late_leads,
    _attempts,
    _customer,
    _pause,
    _queue_depth,
    _sources,
)
