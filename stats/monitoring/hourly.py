"""The hourly statistics: counted once from the event log after each hour, and kept when the leads are deleted."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from leadgateway.time_format import timestamp
from leads.models import EventKind, LeadEvent, LeadStatus
from stats.models import HourlyStatistics, MonitoringState
from stats.monitoring import counters, counting

HOUR = timedelta(hours=1)

#: An hour is counted this long after its end, because an event is dated before it is committed.
COMPLETE_AFTER = timedelta(minutes=5)

#: How far back missed hours are counted, and the maximum number of hours in one run.
BACKFILL = timedelta(days=14)
BATCH = 48

_COUNTS = ("accepted", "duplicates", "rejected", "delivered", "failed", "permanently_failed", "attempts")


def counted_until() -> datetime | None:
    """Return the end of the last counted hour; None if none is counted."""
    return MonitoringState.objects.filter(pk=1).values_list("hours_counted_until", flat=True).first()


def aggregate_hours(*, now: datetime) -> int:
    """Count the next complete hours, at most BATCH, and return how many. Counting an hour again changes nothing.

    :raises django.db.Error: the database is unavailable; the next run counts the hours.
    """
    end = _start_of_hour(now - COMPLETE_AFTER)
    first = _first_uncounted_hour(now)
    hours = [] if first is None else [first + number * HOUR for number in range(BATCH) if first + number * HOUR < end]
    for hour in hours:
        with transaction.atomic():
            _store(list(_rows_of(hour)))
            MonitoringState.objects.update_or_create(pk=1, defaults={"hours_counted_until": hour + HOUR})
    return len(hours)


def recent(*, hours: int) -> QuerySet[HourlyStatistics]:
    """Return the rows of the last counted hours, newest first."""
    until = counted_until()
    rows = HourlyStatistics.objects.order_by("-hour", "source")
    return rows.none() if until is None else rows.filter(hour__gte=until - hours * HOUR)


def as_json(row: HourlyStatistics) -> dict[str, Any]:
    """Return a row for JSON."""
    names = ("source", *_COUNTS, "p50_s", "p95_s")
    return {"hour": timestamp(row.hour)} | {name: getattr(row, name) for name in names}


def _start_of_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def _first_uncounted_hour(now: datetime) -> datetime | None:
    """Return the first hour to count: after the last counted one, or else that of the first event in BACKFILL."""
    earliest = _start_of_hour(now - BACKFILL)
    if until := counted_until():
        return max(until, earliest)
    first = LeadEvent.objects.filter(at__gte=earliest).order_by("at").values_list("at", flat=True).first()
    return None if first is None else _start_of_hour(first)


def _store(rows: list[HourlyStatistics]) -> None:
    HourlyStatistics.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["hour", "source"], update_fields=[*_COUNTS, "p50_s", "p95_s"]
    )


def _rows_of(hour: datetime) -> Iterator[HourlyStatistics]:
    events = LeadEvent.objects.filter(at__gte=hour, at__lt=hour + HOUR, lead__isnull=False)
    sources = {source or "" for source in events.order_by().values_list("lead__source", flat=True).distinct()}
    for source in sources:
        is_of_source = Q(lead__source=source) if source else Q(lead__source=None) | Q(lead__source="")
        yield _row(hour, source, events.filter(is_of_source))


def _row(hour: datetime, source: str, events: QuerySet[LeadEvent]) -> HourlyStatistics:
    counts = counters.count_events(events)
    seconds = counting.delivery_seconds(events)
    return HourlyStatistics(
        hour=hour,
        source=source,
        accepted=counts[EventKind.RECEIVED],
        duplicates=counts[EventKind.DUPLICATE],
        rejected=_by_label(counts, "stopped"),
        delivered=counts[f"entered|{LeadStatus.DELIVERED}"],
        failed=counts[f"entered|{LeadStatus.FAILED}"],
        permanently_failed=counts[f"entered|{LeadStatus.PERMANENTLY_FAILED}"],
        attempts=_by_outcome(_by_label(counts, "attempts")),
        p50_s=_rounded(counting.percentile(seconds, 50)),
        p95_s=_rounded(counting.percentile(seconds, 95)),
    )


def _by_label(counts: counters.Counts, series: str) -> dict[str, int]:
    prefix = f"{series}|"
    return {name.removeprefix(prefix): number for name, number in sorted(counts.items()) if name.startswith(prefix)}


def _by_outcome(attempts: dict[str, int]) -> dict[str, int]:
    by_outcome = counters.Counts()
    for code, number in attempts.items():
        by_outcome[counters.outcome(code)] += number
    return dict(sorted(by_outcome.items()))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
