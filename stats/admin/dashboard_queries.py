"""The numbers of the dashboard: the traffic of a time window, and the current state of the gateway.

Each web process caches both for a short time, so that open dashboards cost little. They contain no personal data and no
text, because the text depends on the reader's language.
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

from delivery.models import DeliveryAttempt, DeliveryControl
from leads.models import NEEDS_ATTENTION, OPEN_STATUSES, InboundLead, LeadStatus
from stats.models import Heartbeat, Incident, ProcessKind
from stats.monitoring import counting, heartbeat
from stats.monitoring.checks.pipeline import evaluate, take_snapshot
from stats.monitoring.checks.result import CheckResult

#: The maximum number of rejection reasons to show. The column may hold reasons that other programs wrote.
MAX_REASONS = 8

#: How long the state is cached. It is shorter than a dashboard's refresh, so that each refresh shows new numbers.
STATE_CACHED_FOR = timedelta(seconds=5)


@dataclass(frozen=True)
class Window:
    """A time window that ends now, divided into bars of `hours` each."""

    code: str
    bars: int
    hours: int
    cached_for: timedelta

    def edges(self, now: datetime) -> list[datetime]:
        """Return the starts of the bars and the end of the last one, in UTC. Bars begin on full local hours or days.

        The last bar is the current hour or day, so the window is a little shorter than its name.
        """
        local = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
        last = local.replace(hour=local.hour - local.hour % self.hours)
        if self.hours == 1:
            last = last.astimezone(UTC)  # with daylight saving time, one local hour occurs twice and one never
        starts = [last + timedelta(hours=self.hours) * (n - self.bars + 1) for n in range(self.bars + 1)]
        return [start.astimezone(UTC) for start in starts]


#: Counting a longer window takes longer (0.05, 0.3 and 1 s for a million leads in 30 days on PostgreSQL). Its numbers
#: change less within a minute.
WINDOWS = {
    window.code: window
    for window in (
        Window("24h", bars=24, hours=1, cached_for=timedelta(seconds=10)),
        Window("7d", bars=28, hours=6, cached_for=timedelta(minutes=1)),
        Window("30d", bars=30, hours=24, cached_for=timedelta(minutes=5)),
    )
}


# --- traffic ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """The leads received from `start` to `end`, counted by their current status."""

    start: datetime
    end: datetime
    leads: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Traffic:
    """The numbers of a window, for the leads that were received in it."""

    at: datetime
    bars: list[Bar]
    #: The number of first attempts in the window with a known outcome, and the number of successful ones.
    first_attempts: int
    first_attempts_succeeded: int
    #: Percentiles of the seconds from received to delivered; None when no lead was delivered.
    median: float | None
    p95: float | None
    #: Reason -> number of rejected leads, the most frequent reason first.
    rejections: dict[str, int]

    @property
    def leads(self) -> Counter[str]:
        """The number of leads by status."""
        return sum((bar.leads for bar in self.bars), Counter())


def traffic(window: Window, *, now: datetime) -> Traffic:
    """Return the numbers of a window from the cache, or count them."""
    cached: Traffic = _cached(f"dashboard:{window.code}", window.cached_for, lambda: _traffic(window, now))
    return cached


def _traffic(window: Window, now: datetime) -> Traffic:
    edges = window.edges(now)
    leads = InboundLead.objects.filter(received_at__gte=edges[0], received_at__lt=edges[-1])
    median, p95 = counting.delivery_time_percentiles(leads)
    first = counting.count_attempts(DeliveryAttempt.objects.filter(attempt_no=1, requested_at__gte=edges[0]))
    return Traffic(
        at=now,
        bars=_bars(leads, edges),
        first_attempts=first.finished,
        first_attempts_succeeded=first.finished - first.failed,
        median=median,
        p95=p95,
        rejections=_rejections(leads),
    )


class Quarter(Func):
    """The number of quarter-hours since 1970. In every time zone, an hour begins with a quarter-hour of UTC."""

    template = "floor(date_part('epoch', %(expressions)s) / 900)::int"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # SQLite would round the fraction of a second up.
        template = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER) / 900"
        return self.as_sql(compiler, connection, template=template, **context)


def _bars(leads: QuerySet[InboundLead], edges: list[datetime]) -> list[Bar]:
    bars = [Bar(start, end) for start, end in pairwise(edges)]
    # The condition on the status lets the database use the index on status and time alone.
    counted = leads.filter(status__in=LeadStatus.values).annotate(quarter=Quarter("received_at"))
    for quarter, status, number in counted.values_list("quarter", "status").annotate(number=Count("*")).order_by():
        start = datetime.fromtimestamp(quarter * 900, UTC)
        bars[bisect_right(edges, start) - 1].leads[status] += number
    return bars


def _rejections(leads: QuerySet[InboundLead]) -> dict[str, int]:
    rejected = leads.filter(status=LeadStatus.REJECTED, rejection_reason__isnull=False)
    counted = rejected.values_list("rejection_reason").annotate(number=Count("*")).order_by("-number")
    return dict(counted[:MAX_REASONS])


# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failures:
    """Leads that need attention and have the same last response; None when the customer never responded."""

    answer: str | None
    leads: int
    oldest: datetime


@dataclass(frozen=True)
class InProgress:
    """The leads that are not yet validated or delivered."""

    leads: int
    oldest_id: int | None
    oldest_received_at: datetime | None
    #: The same for leads that no operator has redelivered. A redelivered lead may be old without a problem.
    oldest_first_run_id: int | None
    oldest_first_run: datetime | None


@dataclass(frozen=True)
class State:
    """The state of the gateway at one time."""

    at: datetime
    in_progress: InProgress
    #: Leads that need attention, the largest group first.
    failures: list[Failures]
    processes: list[Heartbeat]
    #: The number of messages in the queue; None when the queue is unavailable.
    queued: int | None
    has_leads: bool
    #: The results of the pipeline's checks.
    results: list[CheckResult] = field(default_factory=list)
    #: Open incidents, the oldest first.
    incidents: list[Incident] = field(default_factory=list)

    @property
    def need_attention(self) -> int:
        """The number of leads that need attention."""
        return sum(group.leads for group in self.failures)

    def processes_of(self, kind: ProcessKind, *, running: bool) -> list[Heartbeat]:
        """Return the processes of a kind that are running, or that have stopped within the last day."""
        return [
            each for each in self.processes if each.kind == kind and heartbeat.is_running(each, now=self.at) == running
        ]


def state(*, now: datetime) -> State:
    """Return the state from the cache, or query it. An unavailable queue takes up to its timeout."""
    cached: State = _cached("dashboard:state", STATE_CACHED_FOR, lambda: _state(now))
    return cached


def _state(now: datetime) -> State:
    snapshot = take_snapshot(now=now)
    return State(
        at=now,
        in_progress=_in_progress(now),
        failures=_failures(),
        processes=list(snapshot.processes),
        queued=snapshot.queue_depth,
        has_leads=InboundLead.objects.exists(),
        results=evaluate(snapshot),
        incidents=list(Incident.objects.filter(closed_at=None).order_by("pk")),
    )


def _in_progress(now: datetime) -> InProgress:
    """Count the leads in progress. It is slow only with a large backlog; the ids are looked up by time, an index.

    Leads that delivery control keeps back are not too old.
    """
    leads = InboundLead.objects.filter(status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    is_blocked = DeliveryControl.objects.current().is_blocked
    first_run = Q(uncounted_attempts=0) & (Q(status=LeadStatus.RECEIVED) if is_blocked else Q())
    found = leads.aggregate(
        leads=Count("*"),
        oldest=Min("received_at"),
        oldest_first_run=Min("received_at", filter=first_run),
    )
    return InProgress(
        oldest_id=_id_by_time(leads, found["oldest"]),
        oldest_received_at=found.pop("oldest"),
        oldest_first_run_id=_id_by_time(leads, found["oldest_first_run"]),
        **found,
    )


def _id_by_time(leads: QuerySet[InboundLead], received_at: datetime | None) -> int | None:
    if received_at is None:
        return None
    return leads.filter(received_at=received_at).order_by("pk").values_list("pk", flat=True).first()


def _failures() -> list[Failures]:
    counted = InboundLead.objects.filter(NEEDS_ATTENTION).values_list("last_answer")
    groups = counted.annotate(leads=Count("*"), oldest=Min("received_at")).order_by("-leads", "last_answer")
    return [Failures(*group) for group in groups]


# --- cache -----------------------------------------------------------------------------------------------------------

_locks: defaultdict[str, Lock] = defaultdict(Lock)


def _cached(key: str, cached_for: timedelta, query: Callable[[], Any]) -> Any:
    """Return a cached value. When it has expired, one thread runs the query while the other threads wait."""
    with _locks[key]:
        return cache.get_or_set(key, query, cached_for.total_seconds())
