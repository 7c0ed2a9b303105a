"""The counters of the metrics, and the number of leads in each status. They are the same in every process.

The counters are sums over the event log, and never fall. A counter is the total that one row holds plus the events
after it. Every minute a task adds older events to the row. So the rest is short however many leads there are, and
retention may delete what has been counted. Closed leads are counted in the same way; those in progress are few, and are
counted one by one.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
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

#: Maximum number of event ids to add at once, and how often in one run.
BATCH = 100_000
BATCHES = 50

#: Maximum number of event ids to add to the totals when they are read.
READ_LIMIT = 50_000

#: The same for the number of leads, for which fewer and simpler events are counted.
LEADS_READ_LIMIT = 300_000

#: How often closed leads are counted one by one, for those that another program than the gateway has changed.
RECOUNT_AFTER = timedelta(minutes=10)

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
    """Return the number of every series that is not 0, without the events that `uncounted` counts."""
    return _sum(totals.counts, count_events(_between(totals.last_event_id, totals.last_event_id + READ_LIMIT)))


def uncounted(totals: CounterTotals) -> int:
    """Return how many event ids follow those that `current_counts` includes. Some of them may have no event."""
    return max(0, _behind(totals) - READ_LIMIT)


def _behind(totals: CounterTotals) -> int:
    return _newest_event_id() - totals.last_event_id


def update_totals(*, now: datetime) -> None:
    """Add the next events to the row, as soon as none before them can appear any more."""
    for _ in range(BATCHES):
        if not _add_batch(now=now):
            break


def _add_batch(*, now: datetime) -> bool:
    """Add up to BATCH event ids to the row, and return whether there are more.

    No lock is held while events are counted. If another process was faster, the conditional UPDATE changes nothing.
    """
    totals, _ = CounterTotals.objects.get_or_create(
        pk=1, defaults={"checked_at": now, "newest_event_id": _newest_event_id()}
    )
    if now - totals.checked_at < COMPLETE_AFTER:
        return False
    last = min(totals.newest_event_id, totals.last_event_id + BATCH)
    events = _between(totals.last_event_id, last)
    columns: dict[str, Any] = {"last_event_id": last, "counts": _sum(totals.counts, count_events(events))}
    if totals.closed_leads is not None:
        columns["closed_leads"] = _sum(totals.closed_leads, _changes(events))
    is_last = last == totals.newest_event_id
    if is_last:
        columns |= {"newest_event_id": _newest_event_id(), "checked_at": now}
    unchanged = CounterTotals.objects.filter(pk=1, last_event_id=totals.last_event_id, checked_at=totals.checked_at)
    return unchanged.update(**columns) == 1 and not is_last


def _sum(stored: Mapping[str, int], counts: Counts) -> Counts:
    """Return the sums by name, also those that are not positive."""
    total = Counter(stored)
    total.update(counts)
    return total


def _between(after: int, last: int) -> QuerySet[LeadEvent]:
    return LeadEvent.objects.filter(pk__gt=after, pk__lte=last)


def _newest_event_id() -> int:
    return LeadEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


# --- leads by status -------------------------------------------------------------------------------------------------

#: Only the gateway's events change leads in these statuses, of which there may be millions.
_CLOSED_STATUSES = [status for status in LeadStatus if status not in OPEN_STATUSES]

#: One statement, so that the numbers add up. The last line shows whether the totals have moved meanwhile.
_COUNT = """
    WITH changes AS (
        SELECT from_status, to_status, count(*) AS number FROM lead_event
        WHERE id > {last} AND to_status IS NOT NULL GROUP BY from_status, to_status
    )
    SELECT status, sum(number) FROM (
        SELECT status, count(*) AS number FROM inbound_lead WHERE status IN ({rows}) GROUP BY status
        UNION ALL
        SELECT status, {sign} number FROM (
            SELECT to_status AS status, number FROM changes WHERE to_status IN ({closed})
            UNION ALL
            SELECT from_status, -number FROM changes WHERE from_status IN ({closed})
            UNION ALL
            SELECT status, -leads FROM deleted_leads WHERE status IN ({closed})
        ) AS since
        UNION ALL
        SELECT 'last_event_id', last_event_id FROM counter_totals
    ) AS counted GROUP BY status
"""


def leads_by_status(*, exact: bool = True) -> Counter[str]:
    """Return how many leads are in each status, including what is not part of the totals yet.

    :param exact: count the rows one by one when too many events are not part of the totals yet. Otherwise leave these
        events out.
    """
    totals = stored_totals()
    if totals.closed_leads is not None and _behind(totals) <= LEADS_READ_LIMIT:
        counts = _count(totals, rows=OPEN_STATUSES, sign="+")
        if counts is not None:
            return _sum(totals.closed_leads, counts)
    if exact:
        return counting.leads_by_status(InboundLead.objects.all())
    open_leads = counting.leads_by_status(InboundLead.objects.filter(status__in=OPEN_STATUSES))
    return _sum(totals.closed_leads or {}, open_leads)


def recount_closed_leads(*, now: datetime) -> None:
    """Count the closed leads one by one, unless they were counted within RECOUNT_AFTER."""
    totals = stored_totals()
    counted_at = totals.closed_leads_counted_at
    if _behind(totals) > LEADS_READ_LIMIT or (counted_at is not None and now - counted_at < RECOUNT_AFTER):
        return
    counts = _count(totals, rows=_CLOSED_STATUSES, sign="-")
    if counts is not None:
        unchanged = CounterTotals.objects.filter(pk=1, last_event_id=totals.last_event_id)
        unchanged.update(closed_leads=counts, closed_leads_counted_at=now)


def _count(totals: CounterTotals, *, rows: Iterable[LeadStatus], sign: str) -> Counter[str] | None:
    """Count the leads in some statuses, and add or subtract what events and retention have changed since the totals.

    :return: None: the totals have moved meanwhile.
    """
    statement = _COUNT.format(
        rows=_quoted(rows), sign=sign, last=totals.last_event_id, closed=_quoted(_CLOSED_STATUSES)
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        found = Counter({status: int(number) for status, number in cursor.fetchall()})
    return found if found.pop("last_event_id", 0) == totals.last_event_id else None


def _quoted(statuses: Iterable[LeadStatus]) -> str:
    return ", ".join(f"'{status}'" for status in statuses)


def _changes(events: QuerySet[LeadEvent]) -> Counter[str]:
    """Return by how many leads these events have changed the number of leads in each closed status."""
    changes: Counter[str] = Counter()
    for name, sign in (("to_status", 1), ("from_status", -1)):
        closed = events.filter(**{f"{name}__in": _CLOSED_STATUSES})
        for status, number in closed.values_list(name).annotate(number=Count("*")).order_by():
            changes[status] += sign * number
    return changes


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
