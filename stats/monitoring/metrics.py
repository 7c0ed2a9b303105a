"""The metrics for Prometheus, the same whichever process answers: from the database, the queue and the web server.

To add one, yield it in the function of its subject. No label holds what a sender or a person wrote: only statuses,
reasons, HTTP statuses and the names of our processes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Min
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from delivery.models import DeliveryControl
from leadgateway import __version__, db, queue
from leadgateway.logging import get_logger
from leadgateway.server import request_metrics as web_server
from leads.models import NEEDS_ATTENTION, OPEN_STATUSES, EventKind, InboundLead, LeadStatus
from leads.rules import RejectionReason
from stats.models import Heartbeat, Incident, MonitoringState
from stats.monitoring import counters, counting
from stats.monitoring.checks.pipeline import IncidentKind

log = get_logger(__name__)

#: HTTP statuses whose series exist from the start, because Prometheus sees no increase in a series that begins at 1.
_USUAL_CODES = ("200", "400", "401", "403", "404", "422", "429", "500", "502", "503", "504", "none")

#: Maximum number of processes to export, the latest heartbeat first.
_MAX_PROCESSES = 100

#: How long to wait for the depth of the queue after the queries to the database. It has a time-out of its own.
_QUEUE_TIMEOUT_S = 1.0

# In another thread, so that an unresponsive queue and an unresponsive database together cost one time-out.
_background = ThreadPoolExecutor(max_workers=2, thread_name_prefix="metrics")


def collect(*, now: datetime, connect_timeout: timedelta, query_timeout: timedelta) -> CollectorRegistry:
    """Return all available metrics. When the database is unavailable, export only `database_up 0` of its metrics.

    :param connect_timeout: how long to wait for a connection to the database.
    :param query_timeout: how long all queries together may take.
    """
    depths = _background.submit(queue.depths)
    stored = _stored(now=now, connect_timeout=connect_timeout, query_timeout=query_timeout)
    registry = CollectorRegistry()
    registry.register(
        _Fixed(
            [
                InfoMetricFamily("lead_gateway", "The running version.", value={"version": __version__}),
                _gauge("database_up", "Whether the database answers: 1 or 0.", stored is not None),
                *(stored or []),
                *_queue(depths),
                *web_server.measured().collect(),
            ]
        )
    )
    return registry


class _Fixed(Collector):
    """Returns metrics that are collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lead_gateway_{name}", help_text, value=value)


def _queue(depths: Future[dict[str, int]]) -> Iterator[Metric]:
    waiting: dict[str, int] | None
    try:
        waiting = depths.result(_QUEUE_TIMEOUT_S)
    except (queue.QueueUnavailable, TimeoutError):
        waiting = None
    yield _gauge("queue_up", "Whether the queue answers: 1 or 0.", waiting is not None)
    if waiting is not None:
        help_text = "Messages that wait for a worker, by queue, without delayed ones. One carries up to 64 leads."
        depth = GaugeMetricFamily("lead_gateway_queue_depth", help_text, labels=["queue"])
        for name, number in waiting.items():
            depth.add_metric([name], number)
        yield depth


# --- from the database -----------------------------------------------------------------------------------------------


def _stored(*, now: datetime, connect_timeout: timedelta, query_timeout: timedelta) -> list[Metric] | None:
    """Return the metrics from the database; None if it is unavailable."""
    try:
        with db.deadline(connect_timeout):
            connection.ensure_connection()
        with db.deadline(query_timeout):
            totals = counters.stored_totals()
            return [
                *_counters(counters.current_counts(totals)),
                _gauge("uncounted_events", "Events that the counters do not include yet.", counters.uncounted(totals)),
                *_leads(now=now),
                *_delivery_control(),
                _heartbeats(),
                *_monitoring(),
            ]
    except db.UNAVAILABLE as error:
        log.error("database_error", exc_info=error)
        return None


def _leads(*, now: datetime) -> Iterator[Metric]:
    """Count the leads. Those in progress are counted one by one, since there are few."""
    family = GaugeMetricFamily("lead_gateway_leads", "Leads by status.", labels=["status"])
    by_status = counters.leads_by_status(exact=False)
    for status in LeadStatus.values:
        family.add_metric([status], by_status[status])
    yield family
    undelivered = InboundLead.objects.filter(status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    oldest = undelivered.aggregate(since=Min("received_at"))
    yield _age("oldest_undelivered", "Age of the oldest lead that is still to be delivered", oldest["since"], now)
    due = InboundLead.objects.due(now).aggregate(number=Count("*"), since=Min("next_attempt_at"))
    yield _gauge("leads_due", "Leads that are due and not claimed by a worker.", due["number"])
    yield _age("oldest_due", "Time since the first of these leads is due", due["since"], now)
    enqueued = counting.enqueued_leads(now).count()
    yield _gauge("leads_enqueued", "Leads in messages that wait for a worker, without delayed ones.", enqueued)
    attention = InboundLead.objects.filter(NEEDS_ATTENTION).count()
    yield _gauge(
        "leads_needing_attention", "Leads without automatic retries that an operator has to look at.", attention
    )


def _age(name: str, help_text: str, since: datetime | None, now: datetime) -> Metric:
    seconds = 0 if since is None else max(0.0, (now - since).total_seconds())
    return _gauge(f"{name}_seconds", f"{help_text}; 0 if there is none.", seconds)


def _delivery_control() -> Iterator[Metric]:
    control = DeliveryControl.objects.current()
    yield _since("circuit_open", "When the customer was marked as down; 0 if it is not.", control.circuit_opened_at)
    yield _since("delivery_paused", "When an operator paused delivery; 0 if it is active.", control.paused_at)


def _since(name: str, help_text: str, moment: datetime | None) -> Metric:
    return _gauge(f"{name}_since_timestamp_seconds", help_text, moment.timestamp() if moment else 0)


def _heartbeats() -> Metric:
    family = GaugeMetricFamily(
        "lead_gateway_heartbeat_timestamp_seconds",
        "The last heartbeat of each worker and of beat.",
        labels=["kind", "name"],
    )
    for process in Heartbeat.objects.order_by("-seen_at")[:_MAX_PROCESSES]:
        family.add_metric([process.kind, process.name], process.seen_at.timestamp())
    return family


def _monitoring() -> Iterator[Metric]:
    open_incidents = Counter(Incident.objects.filter(closed_at=None).values_list("kind", flat=True))
    family = GaugeMetricFamily("lead_gateway_incident_open", "Open incidents by kind.", labels=["kind"])
    for kind in IncidentKind:
        family.add_metric([kind], open_incidents[kind])
    yield family
    state = MonitoringState.objects.filter(pk=1).first()
    if state is not None and state.checked_at is not None:
        yield _gauge(
            "monitoring_timestamp_seconds", "When the pipeline was last checked.", state.checked_at.timestamp()
        )


# --- counters --------------------------------------------------------------------------------------------------------


def _counters(counts: counters.Counts) -> Iterator[Metric]:
    yield _counter("leads_accepted", "Leads that were stored.", counts["received"])
    yield _counter("duplicates", "Requests whose lead was already stored.", counts["duplicate"])
    yield _counter("circuit_openings", "How often the customer was marked as down.", counts[EventKind.CIRCUIT_OPENED])
    yield _labelled("leads_entered", "Leads that entered a status.", "status", counts, "entered", LeadStatus.values)
    reasons = [*RejectionReason, "other"]
    yield _labelled("leads_rejected", "Leads that are not delivered, by reason.", "reason", counts, "stopped", reasons)
    yield _attempts(counts)
    yield _delivery_times(counts)


def _counter(name: str, help_text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"lead_gateway_{name}", help_text, value=value)


def _labelled(
    name: str, help_text: str, label: str, counts: counters.Counts, series: str, values: Iterable[str]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"lead_gateway_{name}", help_text, labels=[label])
    for value in values:
        family.add_metric([value], counts[f"{series}|{value}"])
    return family


def _attempts(counts: counters.Counts) -> CounterMetricFamily:
    """Return the attempts by outcome and HTTP status, of which the database allows 100 to 599 only."""
    family = CounterMetricFamily(
        "lead_gateway_delivery_attempts",
        "Finished delivery attempts, by outcome and HTTP status (none: no response).",
        labels=["outcome", "code"],
    )
    codes = {name.partition("|")[2] for name in counts if name.startswith("attempts|")}
    for code in sorted(codes.union(_USUAL_CODES)):
        family.add_metric([counters.outcome(code), code], counts[f"attempts|{code}"])
    return family


def _delivery_times(counts: counters.Counts) -> HistogramMetricFamily:
    buckets = [(floatToGoString(bound), counts[f"delivered|{bound:g}"]) for bound in counters.BOUNDS]
    return HistogramMetricFamily(
        "lead_gateway_accepted_to_delivered_seconds",
        "Time from accepted to delivered, without redelivered leads.",
        buckets=[*buckets, ("+Inf", counts["delivered"])],
        sum_value=counts["delivered_ms"] / 1000,
    )
