"""The counters of the metrics: what the trail adds up to, the same whichever process is asked.

They are the sum of what is kept in one row and of the events after it. Every minute a task counts older events into
the row, so the rest is short, however many leads there are, and retention may delete what has been counted.
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

#: The number of each series. A name with more than one part is joined by "|": "attempts|503".
Totals = Counter[str]

#: Events get their numbers before they are committed, so a low one may appear late. Every transaction of the gateway
#: is over within seconds; after this long none is missed. Less than the minute after which the task runs again.
COMPLETE_AFTER = timedelta(seconds=50)

#: How many events are counted in at a time.
BATCH = 100_000

#: Upper bounds of the histogram from accepted to delivered, in seconds: a delivery at once, the retry schedule (30, 90,
#: 210, 450), and what waits for a customer that is back. What is kept was counted by them: new ones begin at 0.
BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400)

_COUNTED = (
    EventKind.RECEIVED,
    EventKind.DUPLICATE,
    EventKind.STATUS,
    EventKind.ATTEMPT_FINISHED,
    EventKind.CIRCUIT_OPENED,
)

_REASONS = frozenset(RejectionReason)

_OUTCOMES = {ResponseClass.DELIVERED: "delivered", ResponseClass.RETRY: "failed", ResponseClass.PERMANENT: "refused"}


def read(counter_totals: CounterTotals) -> Totals:
    """Return the number of every series that is not 0. No series ever goes down."""
    totals = Counter(counter_totals.counted)
    totals.update(count(LeadEvent.objects.filter(pk__gt=counter_totals.until)))
    return totals


def kept() -> CounterTotals:
    """Return the row; an empty one when there is none."""
    return CounterTotals.objects.filter(pk=1).first() or CounterTotals()


def fold(*, now: datetime) -> None:
    """Count the next settled events into the row.

    No lock is held while events are counted. Who was slower than another writes nothing, by a conditional UPDATE.
    """
    counter_totals, _ = CounterTotals.objects.get_or_create(
        pk=1, defaults={"looked_at": now, "newest": _newest_event()}
    )
    if now - counter_totals.looked_at < COMPLETE_AFTER:
        return
    until = min(counter_totals.newest, counter_totals.until + BATCH)
    counted = Counter(counter_totals.counted)
    counted.update(count(LeadEvent.objects.filter(pk__gt=counter_totals.until, pk__lte=until)))
    columns: dict[str, Any] = {"until": until, "counted": counted}
    if until == counter_totals.newest:
        columns |= {"newest": _newest_event(), "looked_at": now}
    CounterTotals.objects.filter(pk=1, until=counter_totals.until, looked_at=counter_totals.looked_at).update(**columns)


def count_closed() -> None:
    """Count the leads that are done with into the row: of those there may be millions."""
    closed = InboundLead.objects.exclude(status__in=OPEN_STATUSES).values_list("status").annotate(number=Count("*"))
    CounterTotals.objects.filter(pk=1).update(closed=dict(closed.order_by()))


def _newest_event() -> int:
    return LeadEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


# --- counting --------------------------------------------------------------------------------------------------------


def outcome(code: str) -> str:
    """Name what became of an attempt with such an answer, an HTTP status or `none`."""
    return _OUTCOMES[classify_response(int(code) if code != "none" else None)]


def count(events: QuerySet[LeadEvent]) -> Totals:
    """Return the number of every series in these events that is not 0."""
    totals = _by_kind(events)
    totals.update(_delivery_times(events))
    return totals


def _by_kind(events: QuerySet[LeadEvent]) -> Totals:
    # Only of a stopped lead is the reason a code; of one that was given up it is a text.
    stopped = When(to_status__in=[LeadStatus.REJECTED, LeadStatus.FAILED], then=KeyTextTransform("reason", "detail"))
    answered = When(kind=EventKind.ATTEMPT_FINISHED, then=KeyTextTransform("response_status", "detail"))
    found = events.filter(kind__in=_COUNTED).annotate(reason=Case(stopped), code=Case(answered))
    totals: Totals = Counter()
    for kind, status, reason, code, number in (
        found.values_list("kind", "to_status", "reason", "code").annotate(number=Count("*")).order_by()
    ):
        for series in _series(kind, status, reason, code):
            totals[series] += number
    return totals


def _series(kind: str, status: str | None, reason: str | None, code: Any) -> list[str]:
    """Name the series in which such an event counts."""
    if kind == EventKind.ATTEMPT_FINISHED:
        return [f"attempts|{code if str(code).isdigit() else 'none'}"]  # SQLite's text for null is "null"
    if kind != EventKind.STATUS:
        return [kind]
    return [f"entered|{status}"] + ([f"stopped|{_known(reason)}"] if reason else [])


def _known(reason: str) -> str:
    return reason if reason in _REASONS else "other"


def _delivery_times(events: QuerySet[LeadEvent]) -> Totals:
    """Count the deliveries by how long after acceptance they came; those of redelivered leads tell of the operator."""
    delivered = events.filter(kind=EventKind.STATUS, to_status=LeadStatus.DELIVERED, lead__uncounted_attempts=0)
    # Subtracted and sorted here: SQLite would call back into Python for each pair and bound.
    pairs = delivered.values_list("at", "lead__received_at").iterator()
    times = sorted(max(0.0, (at - received_at).total_seconds()) for at, received_at in pairs)
    totals: Totals = Counter({f"delivered|{bound:g}": bisect_right(times, bound) for bound in BOUNDS})
    totals.update({"delivered": len(times), "delivered_ms": round(sum(times) * 1000)})
    return +totals
