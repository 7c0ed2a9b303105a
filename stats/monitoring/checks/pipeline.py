"""The checks of the pipeline, judged from numbers alone: no database, no clock, no settings.

To add a check, add its kind, a function and its entry in `CHECKS` here, its number in `stats.monitoring.snapshot`, and
its sentences in `stats.text.incidents`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from stats.monitoring.checks.result import CheckResult, Verdict

_HOUR = timedelta(hours=1)
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


@dataclass(frozen=True)
class Thresholds:
    """All limits of the checks of the pipeline."""

    #: How long after the first process of the gateway the others may start.
    starts_within: timedelta = timedelta(seconds=30)
    #: An unclaimed lead that has been due for this long is late. The sweep enqueues it again after 30 s.
    late_after: timedelta = timedelta(minutes=1)
    #: Late leads are stuck if the first of them has been due for this long.
    stuck_after: timedelta = timedelta(minutes=5)
    #: Deliveries fail if more than `failing_share` of at least `min_attempts` attempts within `attempts_within` failed.
    attempts_within: timedelta = timedelta(minutes=10)
    min_attempts: int = 5
    failing_share: float = 0.5
    #: After this long the operator who paused delivery may have forgotten it.
    paused_for: timedelta = timedelta(hours=1)
    queue_depth: int = 1000
    #: A source is expected to send now if, in the same hours a week ago, it sent at least `min_leads` leads, and some
    #: on at least `min_sending_days` days of the week.
    min_leads: int = 5
    min_sending_days: int = 3
    #: Number of failures in a row that open an incident. The default is 1.
    opens_after: Mapping[IncidentKind, int] = field(
        default_factory=lambda: {
            IncidentKind.DATABASE_UNAVAILABLE: 2,
            IncidentKind.QUEUE_UNAVAILABLE: 2,
            IncidentKind.NO_WORKER: 2,  # a restart takes a moment
            IncidentKind.NO_BEAT: 2,
            IncidentKind.QUEUE_DEEP: 10,
            IncidentKind.SOURCE_SILENT: 10,
        }
    )
    #: Number of good results in a row that close an incident, so that an intermittent problem is one incident.
    closes_after: int = 2

    def opens(self, kind: str, failures: int) -> bool:
        """Return whether this number of failures in a row opens an incident."""
        return failures >= self.opens_after.get(IncidentKind(kind), 1)


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
    #: Number of messages; None if the queue is unavailable.
    queue_depth: int | None
    #: Number of running workers, and the last heartbeat of any worker.
    workers: int
    worker_seen_at: datetime | None
    beats: int
    beat_seen_at: datetime | None
    #: When the first of the running processes started; None if none is running.
    started_at: datetime | None
    #: Number of leads past `late_after`, and since when the first of them is due.
    late: int
    late_since: datetime | None
    #: Number of finished and of failed attempts within `attempts_within`.
    attempts: int
    failed: int
    circuit_opened_at: datetime | None
    paused_at: datetime | None
    paused_by: str = ""
    pause_reason: str = ""
    #: Number of leads that wait because delivery is paused or the customer is down.
    waiting: int = 0
    sources: tuple[SourceActivity, ...] = ()


def evaluate(snapshot: Snapshot, thresholds: Thresholds) -> list[CheckResult]:
    """Return the results of all checks of the pipeline, good ones included."""
    return [result for check in CHECKS for result in check(snapshot, thresholds)]


def _database(_snapshot: Snapshot, _thresholds: Thresholds) -> Iterator[CheckResult]:
    yield CheckResult(IncidentKind.DATABASE_UNAVAILABLE, Verdict.OK)  # without a database there is no snapshot


def _queue(snapshot: Snapshot, _thresholds: Thresholds) -> Iterator[CheckResult]:
    yield CheckResult(IncidentKind.QUEUE_UNAVAILABLE, _failure_if(snapshot.queue_depth is None))


def _workers(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    yield _process(IncidentKind.NO_WORKER, snapshot.workers, snapshot.worker_seen_at, snapshot, thresholds)


def _beat(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    yield _process(IncidentKind.NO_BEAT, snapshot.beats, snapshot.beat_seen_at, snapshot, thresholds)


def _process(
    kind: IncidentKind, running: int, last_seen_at: datetime | None, snapshot: Snapshot, thresholds: Thresholds
) -> CheckResult:
    """Judge the processes of a kind. While the gateway starts, one of them may be a few seconds behind the others."""
    if running:
        return CheckResult(kind, Verdict.OK, facts={"running": running})
    started_at = snapshot.started_at
    is_starting = started_at is not None and snapshot.taken_at - started_at < thresholds.starts_within
    verdict = Verdict.UNKNOWN if is_starting else Verdict.FAILURE
    return CheckResult(kind, verdict, facts={"running": 0, **_since(last_seen_at)})


def _late_leads(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    since = snapshot.late_since
    if since is None:
        verdict = Verdict.OK
    else:
        is_stuck = snapshot.taken_at - since > thresholds.stuck_after
        verdict = Verdict.FAILURE if is_stuck else Verdict.WARNING
    yield CheckResult(IncidentKind.LEADS_STUCK, verdict, facts={"leads": snapshot.late, **_since(since)})


def _attempts(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    """Judge attempts. A few failures, or no attempt at all, prove nothing; a few successes do."""
    fails = snapshot.failed > thresholds.failing_share * snapshot.attempts
    if snapshot.attempts < thresholds.min_attempts and (fails or not snapshot.attempts):
        verdict = Verdict.UNKNOWN
    else:
        verdict = _failure_if(fails)
    minutes = round(thresholds.attempts_within.total_seconds() / 60)
    facts = {"attempts": snapshot.attempts, "failed": snapshot.failed, "minutes": minutes}
    yield CheckResult(IncidentKind.DELIVERIES_FAIL, verdict, facts=facts)


def _customer(snapshot: Snapshot, _thresholds: Thresholds) -> Iterator[CheckResult]:
    opened_at = snapshot.circuit_opened_at
    yield CheckResult(
        IncidentKind.CUSTOMER_DOWN,
        _failure_if(opened_at is not None),
        facts=_since(opened_at),
        private_facts={"waiting": snapshot.waiting},
    )


def _pause(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    if snapshot.paused_at is None:
        yield CheckResult(IncidentKind.DELIVERY_PAUSED, Verdict.OK)
        return
    is_long = snapshot.taken_at - snapshot.paused_at >= thresholds.paused_for
    yield CheckResult(
        IncidentKind.DELIVERY_PAUSED,
        Verdict.FAILURE if is_long else Verdict.WARNING,
        facts=_since(snapshot.paused_at),
        private_facts={"by": snapshot.paused_by, "reason": snapshot.pause_reason, "waiting": snapshot.waiting},
    )


def _queue_depth(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    depth = snapshot.queue_depth
    if depth is None:
        yield CheckResult(IncidentKind.QUEUE_DEEP, Verdict.UNKNOWN)
    else:
        yield CheckResult(IncidentKind.QUEUE_DEEP, _failure_if(depth > thresholds.queue_depth), facts={"depth": depth})


def _sources(snapshot: Snapshot, thresholds: Thresholds) -> Iterator[CheckResult]:
    for source in snapshot.sources:
        week = [_hours_before(source, snapshot.taken_at, days) for days in range(1, _DAYS_PER_WEEK + 1)]
        a_week_ago = sum(week[-1].values())
        sending_days = {hour.date() for hours in week for hour in hours}
        is_silent = a_week_ago >= thresholds.min_leads and len(sending_days) >= thresholds.min_sending_days
        facts = {**_since(source.last_at), "a_week_ago": a_week_ago}
        yield CheckResult(IncidentKind.SOURCE_SILENT, _failure_if(is_silent), source.name, facts)


def _hours_before(source: SourceActivity, now: datetime, days: int) -> dict[datetime, int]:
    """Return the leads in the hours that lie `days` days before the time since the source's last lead.

    A source that sends nothing at night or on Sundays has no leads in those hours, so it is not expected then. Only
    whole hours count, because the statistics do not say when within its hour a lead was received.
    """
    start, end = source.last_at - timedelta(days=days), now - timedelta(days=days)
    return {hour: leads for hour, leads in source.hours.items() if start <= hour and hour + _HOUR <= end}


def _failure_if(is_failure: bool) -> Verdict:
    return Verdict.FAILURE if is_failure else Verdict.OK


def _since(moment: datetime | None) -> dict[str, Any]:
    return {} if moment is None else {"since": moment.isoformat(timespec="seconds")}


#: In the order in which they are shown.
CHECKS: tuple[Callable[[Snapshot, Thresholds], Iterable[CheckResult]], ...] = (
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
