"""The counters of the metrics: sums over the event log that are the same in every process and never fall.

A counter is the total that one row holds plus the events after it. Every minute a task adds older events to the row.
So the rest is short however many leads there are, and retention may delete what has been counted.
"""

from bisect import bisect_right
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, QuerySet, When
from django.db.models.fields.json import KeyTextTransform

from delivery.retry import ResponseClass, classify_response
from leads.models import OPEN_STATUSES, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.rules import RejectionReason
from stats.models import CounterTotals
from stats.monitoring import counting

#: The number of each series. The parts of a name are joined by "|": "attempts|503".
Counts = Counter[str]

#: An event gets its id before it is committed, so a low id may appear late. Every transaction of the gateway ends
#: within seconds, so after this long no event is missing. Shorter than the minute between two runs of the task.
COMPLETE_AFTER = timedelta(seconds=50)

#: Maximum number of event ids to add in one run.
BATCH = 100_000

#: Upper bounds of the histogram from accepted to delivered, in seconds: immediate deliveries, the retry schedule (30,
#: 90, 210, 450), and leads that waited for the customer. A bound that is added later starts at 0.
BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400)

_COUNTED_KINDS = (
    EventKind.RECEIVED,
    EventKind.DUPLICATE,
    EventKind.STATUS,
    EventKind.ATTEMPT_FINISHED,
    EventKind.CIRCUIT_OPENED,
)

_REASONS = frozenset(RejectionReason)

_OUTCOMES = {ResponseClass.DELIVERED: "delivered", ResponseClass.RETRY: "failed", ResponseClass.PERMANENT: "refused"}


def stored_totals() -> CounterTotals:
    """Return the row of totals; an empty one if there is none yet."""
    return CounterTotals.objects.filter(pk=1).first() or CounterTotals()


def current_counts(totals: CounterTotals) -> Counts:
    """Return the number of every series that is not 0."""
    counts = Counter(totals.counts)
    counts.update(count_events(LeadEvent.objects.filter(pk__gt=totals.last_event_id)))
    return counts


def update_totals(*, now: datetime) -> None:
    """Add the next events to the row, as soon as none before them can appear any more.

    No lock is held while events are counted. If another process was faster, the conditional UPDATE changes nothing.
    """
    totals, _ = CounterTotals.objects.get_or_create(
        pk=1, defaults={"checked_at": now, "newest_event_id": _newest_event_id()}
    )
    if now - totals.checked_at < COMPLETE_AFTER:
        return
    last = min(totals.newest_event_id, totals.last_event_id + BATCH)
    counts = Counter(totals.counts)
    counts.update(count_events(LeadEvent.objects.filter(pk__gt=totals.last_event_id, pk__lte=last)))
    columns: dict[str, Any] = {"last_event_id": last, "counts": counts}
    if last == totals.newest_event_id:
        columns |= {"newest_event_id": _newest_event_id(), "checked_at": now}
    unchanged = CounterTotals.objects.filter(pk=1, last_event_id=totals.last_event_id, checked_at=totals.checked_at)
    unchanged.update(**columns)


def update_closed_leads() -> None:
    """Store the numbers of closed leads by status, since there may be millions of them."""
    closed = counting.leads_by_status(InboundLead.objects.exclude(status__in=OPEN_STATUSES))
    CounterTotals.objects.filter(pk=1).update(closed_leads=closed)


def _newest_event_id() -> int:
    return LeadEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


# --- events to series ------------------------------------------------------------------------------------------------


def outcome(code: str) -> str:
    """Return the outcome of an attempt with this HTTP status, or `none` for no response."""
    return _OUTCOMES[classify_response(int(code) if code != "none" else None)]


def count_events(events: QuerySet[LeadEvent]) -> Counts:
    """Return the number of every series in these events that is not 0."""
    counts = _by_kind(events)
    counts.update(_delivery_time_buckets(events))
    return counts


def _by_kind(events: QuerySet[LeadEvent]) -> Counts:
    # The reason is a rejection reason for these two statuses only.
    stopped = When(to_status__in=[LeadStatus.REJECTED, LeadStatus.FAILED], then=KeyTextTransform("reason", "detail"))
    answered = When(kind=EventKind.ATTEMPT_FINISHED, then=KeyTextTransform("response_status", "detail"))
    found = events.filter(kind__in=_COUNTED_KINDS).annotate(reason=Case(stopped), code=Case(answered))
    counts: Counts = Counter()
    for kind, status, reason, code, number in (
        found.values_list("kind", "to_status", "reason", "code").annotate(number=Count("*")).order_by()
    ):
        for series in _series(kind, status, reason, code):
            counts[series] += number
    return counts


def _series(kind: str, status: str | None, reason: str | None, code: Any) -> list[str]:
    """Return the series in which such an event counts."""
    if kind == EventKind.ATTEMPT_FINISHED:
        return [f"attempts|{code if str(code).isdigit() else 'none'}"]  # SQLite's text for null is "null"
    if kind != EventKind.STATUS:
        return [kind]
    return [f"entered|{status}"] + ([f"stopped|{_known(reason)}"] if reason else [])


def _known(reason: str) -> str:
    return reason if reason in _REASONS else "other"


def _delivery_time_buckets(events: QuerySet[LeadEvent]) -> Counts:
    seconds = counting.delivery_seconds(events)
    counts: Counts = Counter({f"delivered|{bound:g}": bisect_right(seconds, bound) for bound in BOUNDS})
    counts.update({"delivered": len(seconds), "delivered_ms": round(sum(seconds) * 1000)})
    return +counts
