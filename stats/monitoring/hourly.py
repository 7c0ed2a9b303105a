"""What happened hour by hour: counted once from the trail when an hour is over, and kept when the leads are deleted."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from leadgateway.time_format import timestamp
from leads.models import EventKind, LeadEvent, LeadStatus
from stats.models import HourlyStatistics, MonitoringState
from stats.monitoring import counters

HOUR = timedelta(hours=1)

#: An hour is counted so long after its end: events are dated before they are committed.
COMPLETE_AFTER = timedelta(minutes=5)

#: How far back hours that were missed are counted, and how many of them at a time.
BACKFILL = timedelta(days=14)
BATCH = 48

_COUNTS = ("accepted", "duplicates", "rejected", "delivered", "failed", "permanently_failed", "attempts")


def counted_until() -> datetime | None:
    """Return up to when hours are counted; None: none is."""
    return MonitoringState.objects.filter(pk=1).values_list("counted_until", flat=True).first()


def aggregate_hours(*, now: datetime) -> int:
    """Count the next hours that are over, BATCH at most; return how many. Counting an hour again changes nothing.

    :raises django.db.Error: the database is away; the hours are counted the next time.
    """
    end = _begin_of_hour(now - COMPLETE_AFTER)
    begin = _first_to_count(now)
    hours = [] if begin is None else [begin + number * HOUR for number in range(BATCH) if begin + number * HOUR < end]
    for hour in hours:
        with transaction.atomic():
            _store(list(_of_hour(hour)))
            MonitoringState.objects.update_or_create(pk=1, defaults={"counted_until": hour + HOUR})
    return len(hours)


def recent(*, hours: int) -> QuerySet[HourlyStatistics]:
    """Return the rows of the last so many hours that were counted, the latest first."""
    until = counted_until()
    rows = HourlyStatistics.objects.order_by("-hour", "source")
    return rows.none() if until is None else rows.filter(hour__gte=until - hours * HOUR)


def shown(row: HourlyStatistics) -> dict[str, Any]:
    """Return a row for JSON."""
    names = ("source", *_COUNTS, "p50_s", "p95_s")
    return {"hour": timestamp(row.hour)} | {name: getattr(row, name) for name in names}


def _begin_of_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def _first_to_count(now: datetime) -> datetime | None:
    """Return the first hour that is not counted; at the very beginning that of the first event of the last weeks."""
    earliest = _begin_of_hour(now - BACKFILL)
    if until := counted_until():
        return max(until, earliest)
    first = LeadEvent.objects.filter(at__gte=earliest).order_by("at").values_list("at", flat=True).first()
    return None if first is None else _begin_of_hour(first)


def _store(rows: list[HourlyStatistics]) -> None:
    HourlyStatistics.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["hour", "source"], update_fields=[*_COUNTS, "p50_s", "p95_s"]
    )


# --- counting --------------------------------------------------------------------------------------------------------


def _of_hour(hour: datetime) -> Iterator[HourlyStatistics]:
    events = LeadEvent.objects.filter(at__gte=hour, at__lt=hour + HOUR, lead__isnull=False)
    sources = {source or "" for source in events.order_by().values_list("lead__source", flat=True).distinct()}
    for source in sources:
        nobody_said = Q(lead__source=None) | Q(lead__source="")
        yield _row(hour, source, events.filter(Q(lead__source=source) if source else nobody_said))


def _row(hour: datetime, source: str, events: QuerySet[LeadEvent]) -> HourlyStatistics:
    counted = counters.count(events)
    times = _delivery_times(events)
    return HourlyStatistics(
        hour=hour,
        source=source,
        accepted=counted[EventKind.RECEIVED],
        duplicates=counted[EventKind.DUPLICATE],
        rejected=_parts(counted, "stopped"),
        delivered=counted[f"entered|{LeadStatus.DELIVERED}"],
        failed=counted[f"entered|{LeadStatus.FAILED}"],
        permanently_failed=counted[f"entered|{LeadStatus.PERMANENTLY_FAILED}"],
        attempts=_attempts(_parts(counted, "attempts")),
        p50_s=_percentile(times, 50),
        p95_s=_percentile(times, 95),
    )


def _parts(counted: counters.Totals, series: str) -> dict[str, int]:
    return {name.partition("|")[2]: number for name, number in sorted(counted.items()) if name.startswith(f"{series}|")}


def _attempts(by_code: dict[str, int]) -> dict[str, int]:
    by_outcome: counters.Totals = counters.Totals()
    for code, number in by_code.items():
        by_outcome[counters.outcome(code)] += number
    return dict(sorted(by_outcome.items()))


def _delivery_times(events: QuerySet[LeadEvent]) -> list[float]:
    """Return the seconds from accepted to delivered, in order; those of redelivered leads tell of the operator."""
    delivered = events.filter(kind=EventKind.STATUS, to_status=LeadStatus.DELIVERED, lead__uncounted_attempts=0)
    pairs = delivered.values_list("at", "lead__received_at").iterator()
    return sorted(max(0.0, (at - received_at).total_seconds()) for at, received_at in pairs)


def _percentile(ordered: list[float], percent: int) -> float | None:
    """Return the value below or at which so many percent of the values lie."""
    return round(ordered[(len(ordered) - 1) * percent // 100], 3) if ordered else None
