"""The one place that counts leads, attempts and events, for `/metrics`, the dashboard, the checks of the pipeline, the
hourly statistics and `/stats/leads/counts`. The counters that never fall are built on it in `counters`.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Aggregate, Count, FloatField, Func, Q, QuerySet

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus

# --- leads -----------------------------------------------------------------------------------------------------------


def leads_by_status(leads: QuerySet[InboundLead]) -> Counter[str]:
    """Return the number of leads in each status that has any; one query, so that the numbers add up."""
    return Counter(dict(leads.order_by().values_list("status").annotate(number=Count("*"))))


def enqueued_leads(now: datetime) -> QuerySet[InboundLead]:
    """Return the leads in messages that wait for a worker, without those with a delay."""
    return InboundLead.objects.due(now).filter(enqueued_at__lte=now)


# --- attempts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttemptCounts:
    """How many attempts have a known outcome, and how many of these failed."""

    finished: int
    failed: int


def count_attempts(attempts: QuerySet[DeliveryAttempt]) -> AttemptCounts:
    """Count the attempts whose outcome is known."""
    finished = attempts.filter(~OUTCOME_UNKNOWN)
    return AttemptCounts(**finished.aggregate(finished=Count("*"), failed=Count("pk", filter=Q(success=False))))


# --- delivery times --------------------------------------------------------------------------------------------------


def delivery_seconds(events: QuerySet[LeadEvent]) -> list[float]:
    """Return the seconds from accepted to delivered of the deliveries in these events, in ascending order.

    Redelivered leads are left out: their time depends on the operator.
    """
    delivered = events.filter(kind=EventKind.STATUS, to_status=LeadStatus.DELIVERED, lead__uncounted_attempts=0)
    # Subtracted and sorted here: SQLite would call back into Python for each pair.
    pairs = delivered.values_list("at", "lead__received_at").iterator()
    return sorted(max(0.0, (at - received_at).total_seconds()) for at, received_at in pairs)


def percentile(ascending: list[float], percent: int) -> float | None:
    """Return the value at or below which this percentage of the values lies; None if there are no values."""
    return ascending[_percentile_index(len(ascending), percent)] if ascending else None


def delivery_time_percentiles(leads: QuerySet[InboundLead]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile of the seconds from received to delivered of these leads.

    Computed in the database, which may hold millions of them.
    """
    delivered = leads.filter(status=LeadStatus.DELIVERED, delivered_at__isnull=False)
    elapsed = Elapsed("delivered_at", "received_at")
    if connection.vendor == "sqlite":
        number = delivered.count()
        if not number:
            return None, None
        seconds = delivered.annotate(elapsed=elapsed).order_by("elapsed").values_list("elapsed", flat=True)
        return seconds[_percentile_index(number, 50)], seconds[_percentile_index(number, 95)]
    found = delivered.aggregate(median=Percentile(elapsed, fraction=0.5), p95=Percentile(elapsed, fraction=0.95))
    return found["median"], found["p95"]


def _percentile_index(number: int, percent: int) -> int:
    return (number - 1) * percent // 100


class Elapsed(Func):
    """The seconds from the second expression to the first."""

    template = "date_part('epoch', %(expressions)s)"
    arg_joiner = " - "
    arity = 2
    output_field = FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template, joiner = "((julianday(%(expressions)s)) * 86400.0)", ") - julianday("
        return self.as_sql(compiler, connection, template=template, arg_joiner=joiner, **context)


class Percentile(Aggregate):
    """PostgreSQL's percentile, which interpolates between two values."""

    template = "percentile_cont(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()
