"""The figures of the dashboard: what came in and what became of it in a window of time, and how things stand now.

Both are kept for a while in the memory of each web process, so that dashboards left open cost next to nothing. They
hold no personal data, and no words: those are in the language of who reads.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Lock
from typing import Any

from django.core.cache import cache
from django.db.models import Count, Func, IntegerField, Min, Q, QuerySet
from django.utils import timezone

from delivery.configuration import limits
from delivery.models import DeliveryAttempt, DeliveryControl
from leads.models import NEEDS_ATTENTION, OPEN_STATUSES, InboundLead, LeadStatus
from stats.models import Heartbeat, Incident, ProcessKind
from stats.monitoring import counting, heartbeat

#: How many rejection reasons are told of: the lead's own column may hold anything that others write.
TOP = 8

#: A lead that is due for longer than this, with nobody at it, is late: the sweep takes a doorbell for lost after 30 s.
LATE_AFTER = timedelta(minutes=1)

#: How things stand is asked anew after this; less than a dashboard's refresh, so that each shows something new.
STATE_KEPT_FOR = timedelta(seconds=5)


@dataclass(frozen=True)
class Window:
    """A stretch of time up to now, in bars of so many hours; its figures are counted anew after `kept_for`."""

    code: str
    bars: int
    hours: int
    kept_for: timedelta

    def edges(self, now: datetime) -> list[datetime]:
        """Return where the bars begin and the last one ends, in UTC; they begin with hours and days of the local clock.

        The last bar is the running one, so the window is a little shorter than its name.
        """
        local = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
        last = local.replace(hour=local.hour - local.hour % self.hours)
        if self.hours == 1:
            last = last.astimezone(UTC)  # the local clock shows one hour twice a year, and one never
        starts = [last + timedelta(hours=self.hours) * (n - self.bars + 1) for n in range(self.bars + 1)]
        return [start.astimezone(UTC) for start in starts]


#: The longer the window, the more there is to count (of a million leads in 30 days: 0.05, 0.3 and 1 s on PostgreSQL),
#: and the less a minute changes it.
WINDOWS = {
    window.code: window
    for window in (
        Window("24h", bars=24, hours=1, kept_for=timedelta(seconds=10)),
        Window("7d", bars=28, hours=6, kept_for=timedelta(minutes=1)),
        Window("30d", bars=30, hours=24, kept_for=timedelta(minutes=5)),
    )
}


# --- what came in, and what became of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """How many of the leads received from `start` to `end` are in each status now."""

    start: datetime
    end: datetime
    leads: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Traffic:
    """The figures of a window; its leads are those that were received in it."""

    at: datetime
    bars: list[Bar]
    #: Of those with a first attempt in the window whose outcome is known: how many there are, and succeeded with it.
    first_attempts: int
    succeeded_at_once: int
    #: Seconds from received to delivered, for half of the leads and for 95 % of them; None when none was delivered.
    median: float | None
    p95: float | None
    #: Reason -> number of the rejected leads, the most frequent first.
    rejections: dict[str, int]

    @property
    def leads(self) -> Counter[str]:
        """The number of leads by status."""
        return sum((bar.leads for bar in self.bars), Counter())


def traffic(window: Window, *, now: datetime) -> Traffic:
    """Return the figures of a window, or those of a moment ago."""
    kept: Traffic = _kept(f"figures:{window.code}", window.kept_for, lambda: _traffic(window, now))
    return kept


def _traffic(window: Window, now: datetime) -> Traffic:
    edges = window.edges(now)
    leads = InboundLead.objects.filter(received_at__gte=edges[0], received_at__lt=edges[-1])
    median, p95 = counting.delivery_time_percentiles(leads)
    first = counting.count_attempts(DeliveryAttempt.objects.filter(attempt_no=1, requested_at__gte=edges[0]))
    return Traffic(
        at=now,
        bars=_bars(leads, edges),
        first_attempts=first.finished,
        succeeded_at_once=first.finished - first.failed,
        median=median,
        p95=p95,
        rejections=_rejections(leads),
    )


class Quarter(Func):
    """The number of the quarter of an hour since 1970. Every time zone's hours begin with one."""

    template = "floor(date_part('epoch', %(expressions)s) / 900)::int"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Of the text without its fraction, which SQLite would round.
        template = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER) / 900"
        return self.as_sql(compiler, connection, template=template, **context)


def _bars(leads: QuerySet[InboundLead], edges: list[datetime]) -> list[Bar]:
    bars = [Bar(start, end) for start, end in pairwise(edges)]
    # All statuses are named so that the index on status and time has the answer by itself.
    counted = leads.filter(status__in=LeadStatus.values).annotate(quarter=Quarter("received_at"))
    for quarter, status, number in counted.values_list("quarter", "status").annotate(number=Count("*")).order_by():
        begins = datetime.fromtimestamp(quarter * 900, UTC)
        bars[bisect_right(edges, begins) - 1].leads[status] += number
    return bars


def _rejections(leads: QuerySet[InboundLead]) -> dict[str, int]:
    rejected = leads.filter(status=LeadStatus.REJECTED, rejection_reason__isnull=False)
    counted = rejected.values_list("rejection_reason").annotate(number=Count("*")).order_by("-number")
    return dict(counted[:TOP])


# --- how things stand now --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failures:
    """Leads that need attention and got the same last answer; None: none that is known."""

    answer: str | None
    leads: int
    oldest: datetime


@dataclass(frozen=True)
class InProgress:
    """The leads that are still to be delivered, or looked at for the first time."""

    leads: int
    oldest_id: int | None
    oldest_received_at: datetime | None
    #: The same of those that nobody has ordered anew: an old lead that was redelivered is nothing to worry about.
    oldest_first_run_id: int | None
    oldest_first_run: datetime | None
    #: Those that are due, with nobody at it, for longer than LATE_AFTER; and since when the first of them is.
    late: int
    late_since: datetime | None


@dataclass(frozen=True)
class State:
    """How things stand at a moment."""

    at: datetime
    in_progress: InProgress
    #: The largest group first.
    failures: list[Failures]
    processes: list[Heartbeat]
    #: Doorbells in the queue; None: it is away.
    queued: int | None
    has_leads: bool
    #: Those that are not over, the oldest first.
    incidents: list[Incident] = field(default_factory=list)

    @property
    def need_attention(self) -> int:
        """The number of leads that need attention."""
        return sum(group.leads for group in self.failures)

    def of_kind(self, kind: ProcessKind, *, alive: bool) -> list[Heartbeat]:
        """Return the processes of a kind that live, or that were seen in the last day but do not."""
        return [
            each for each in self.processes if each.kind == kind and heartbeat.is_running(each, now=self.at) == alive
        ]


def state(*, now: datetime) -> State:
    """Return how things stand, or stood a moment ago; a queue that is away costs its bounded wait."""
    kept: State = _kept("figures:state", STATE_KEPT_FOR, lambda: _state(now))
    return kept


def _state(now: datetime) -> State:
    return State(
        at=now,
        in_progress=_under_way(now),
        failures=_failures(),
        processes=heartbeat.recent_processes(now=now),
        queued=counting.queue_depth(),
        has_leads=InboundLead.objects.exists(),
        incidents=list(Incident.objects.filter(closed_at=None).order_by("pk")),
    )


def _under_way(now: datetime) -> InProgress:
    """Count what is under way, which takes time for a backlog only; the id is looked up by the time, its index.

    What waits because delivery is held or the customer is down is neither late nor too old; nor is it late when it
    waits for its turn.
    """
    leads = InboundLead.objects.filter(status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    is_blocked = DeliveryControl.objects.current().is_blocked
    is_unclaimed = Q(claimed_until=None) | Q(claimed_until__lt=now)
    is_late = Q(next_attempt_at__lt=now - LATE_AFTER) & is_unclaimed & _before_the_gate(is_blocked or limits().exist)
    first_run = Q(uncounted_attempts=0) & _before_the_gate(is_blocked)
    found = leads.aggregate(
        leads=Count("*"),
        oldest=Min("received_at"),
        oldest_first_run=Min("received_at", filter=first_run),
        late=Count("pk", filter=is_late),
        late_since=Min("next_attempt_at", filter=is_late),
    )
    return InProgress(
        oldest_id=_received_at(leads, found["oldest"]),
        oldest_received_at=found.pop("oldest"),
        oldest_first_run_id=_received_at(leads, found["oldest_first_run"]),
        **found,
    )


def _before_the_gate(only: bool) -> Q:
    return Q(status=LeadStatus.RECEIVED) if only else Q()


def _received_at(leads: QuerySet[InboundLead], now: datetime | None) -> int | None:
    return None if now is None else leads.filter(received_at=now).order_by("pk").values_list("pk", flat=True).first()


def _failures() -> list[Failures]:
    counted = InboundLead.objects.filter(NEEDS_ATTENTION).values_list("last_answer")
    groups = counted.annotate(leads=Count("*"), oldest=Min("received_at")).order_by("-leads", "last_answer")
    return [Failures(*group) for group in groups]


# --- the memory of this process --------------------------------------------------------------------------------------

_locks: defaultdict[str, Lock] = defaultdict(Lock)


def _kept(key: str, length: timedelta, make: Callable[[], Any]) -> Any:
    """Return what is kept by a name, made anew when it is too old: by one thread, while the others wait for it."""
    with _locks[key]:
        return cache.get_or_set(key, make, length.total_seconds())
