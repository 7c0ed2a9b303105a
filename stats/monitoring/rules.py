"""What is wrong with the pipeline, judged from figures alone: no database, no clock, no settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

_HOUR = timedelta(hours=1)
_DAYS_OF_A_WEEK = 7


class Kind(StrEnum):
    """What can be wrong."""

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


class Verdict(StrEnum):
    """How it is; UNKNOWN neither opens an incident nor ends one."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Thresholds:
    """What is too much, too long or too little. All of them are here."""

    #: A lead that is due, with nobody at it. The sweep takes a doorbell for lost after 30 s.
    stuck_after: timedelta = timedelta(minutes=5)
    #: Of the attempts of so long a time, if there are so many, a larger share fails.
    attempts_within: timedelta = timedelta(minutes=10)
    fewest_attempts: int = 5
    failing_share: float = 0.5
    #: Somebody may have forgotten that he holds delivery.
    paused_for: timedelta = timedelta(hours=1)
    queue_depth: int = 1000
    #: A source is expected to send when in the same hours a week ago at least so many leads came, and some on so many
    #: days of the week.
    fewest_leads: int = 5
    sending_days: int = 3
    #: How many checks in a row must find it before it is an incident; the others are one at once.
    opens_after: Mapping[Kind, int] = field(
        default_factory=lambda: {
            Kind.DATABASE_UNAVAILABLE: 2,
            Kind.QUEUE_UNAVAILABLE: 2,
            Kind.NO_WORKER: 2,  # one that is restarted is away for a moment
            Kind.NO_BEAT: 2,
            Kind.QUEUE_DEEP: 10,
            Kind.SOURCE_SILENT: 10,
        }
    )
    #: How many in a row must find it well before it is over, so that what comes and goes is one incident.
    closes_after: int = 2

    def opens(self, kind: Kind, checks: int) -> bool:
        """Tell whether so many bad checks in a row make an incident."""
        return checks >= self.opens_after.get(kind, 1)


@dataclass(frozen=True)
class Source:
    """What came from one sender."""

    name: str
    #: When its last lead came; to the hour, when that was some time ago.
    last_at: datetime
    #: The beginning of an hour -> leads in it; two weeks of them.
    hours: Mapping[datetime, int]


@dataclass(frozen=True)
class Snapshot:
    """The figures of a moment."""

    at: datetime
    #: Doorbells; None: the queue cannot be reached.
    queue_depth: int | None
    #: Those that live, and when the last of those that are silent was seen.
    workers: int
    worker_seen_at: datetime | None
    beats: int
    beat_seen_at: datetime | None
    #: Leads that are due for longer than `stuck_after` though nothing keeps them, and since when the first one is.
    stuck: int
    stuck_since: datetime | None
    #: Of `attempts_within`: those with an outcome, and those of them that were no success.
    attempts: int
    failed: int
    circuit_opened_at: datetime | None
    paused_at: datetime | None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What was found about one thing. The facts are fit for JSON and hold nothing of a person."""

    kind: Kind
    verdict: Verdict
    #: What exactly, when there are several, such as the name of a source.
    subject: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def judge(seen: Snapshot, limits: Thresholds) -> list[CheckResult]:
    """Return a judgement of everything there is to judge, the good ones included."""
    return [
        CheckResult(Kind.DATABASE_UNAVAILABLE, Verdict.GOOD),  # or there were no figures
        _queue(seen),
        _present(Kind.NO_WORKER, seen.workers, seen.worker_seen_at),
        _present(Kind.NO_BEAT, seen.beats, seen.beat_seen_at),
        _stuck(seen),
        _attempts(seen, limits),
        _since(Kind.CUSTOMER_DOWN, seen.circuit_opened_at, is_bad=seen.circuit_opened_at is not None),
        _held(seen, limits),
        _depth(seen, limits),
        *_sources(seen, limits),
    ]


def _verdict(is_bad: bool) -> Verdict:
    return Verdict.BAD if is_bad else Verdict.GOOD


def _since(kind: Kind, moment: datetime | None, *, is_bad: bool, **facts: Any) -> CheckResult:
    told = {} if moment is None else {"since": moment.isoformat(timespec="seconds")}
    return CheckResult(kind, _verdict(is_bad), facts=facts | told)


def _queue(seen: Snapshot) -> CheckResult:
    return CheckResult(Kind.QUEUE_UNAVAILABLE, _verdict(seen.queue_depth is None))


def _present(kind: Kind, number: int, last_seen_at: datetime | None) -> CheckResult:
    return _since(kind, None if number else last_seen_at, is_bad=not number, alive=number)


def _stuck(seen: Snapshot) -> CheckResult:
    return _since(Kind.LEADS_STUCK, seen.stuck_since, is_bad=seen.stuck > 0, leads=seen.stuck)


def _attempts(seen: Snapshot, limits: Thresholds) -> CheckResult:
    """Judge attempts. Too few that fail prove nothing, and none is no recovery; a few that succeed are one."""
    fails = seen.failed > limits.failing_share * seen.attempts
    if seen.attempts < limits.fewest_attempts and (fails or not seen.attempts):
        verdict = Verdict.UNKNOWN
    else:
        verdict = _verdict(fails)
    minutes = round(limits.attempts_within.total_seconds() / 60)
    facts = {"attempts": seen.attempts, "failed": seen.failed, "minutes": minutes}
    return CheckResult(Kind.DELIVERIES_FAIL, verdict, facts=facts)


def _held(seen: Snapshot, limits: Thresholds) -> CheckResult:
    too_long = seen.paused_at is not None and seen.at - seen.paused_at >= limits.paused_for
    return _since(Kind.DELIVERY_PAUSED, seen.paused_at, is_bad=too_long)


def _depth(seen: Snapshot, limits: Thresholds) -> CheckResult:
    if seen.queue_depth is None:
        return CheckResult(Kind.QUEUE_DEEP, Verdict.UNKNOWN)
    is_deep = seen.queue_depth > limits.queue_depth
    return CheckResult(Kind.QUEUE_DEEP, _verdict(is_deep), facts={"depth": seen.queue_depth})


# --- who usually sends -----------------------------------------------------------------------------------------------


def _sources(seen: Snapshot, limits: Thresholds) -> Iterator[CheckResult]:
    for source in seen.sources:
        weeks = [_shifted(source, seen.at, days) for days in range(1, _DAYS_OF_A_WEEK + 1)]
        a_week_ago = sum(weeks[-1].values())
        days = {hour.date() for hours in weeks for hour in hours}
        is_silent = a_week_ago >= limits.fewest_leads and len(days) >= limits.sending_days
        facts = {"since": source.last_at.isoformat(timespec="seconds"), "a_week_ago": a_week_ago}
        yield CheckResult(Kind.SOURCE_SILENT, _verdict(is_silent), source.name, facts)


def _shifted(source: Source, now: datetime, days: int) -> dict[datetime, int]:
    """Return the leads of the hours that are to so many days ago what the silence is to now.

    So nothing is expected at night of who never sends at night, nor on a Sunday of who rests on Sundays: that is why
    a week ago must have had some. Only whole hours count, as nobody knows when in its hour a lead came.
    """
    start, end = source.last_at - timedelta(days=days), now - timedelta(days=days)
    return {hour: leads for hour, leads in source.hours.items() if start <= hour and hour + _HOUR <= end}
