"""The figures for Prometheus, the same whichever process is asked: from the db, the queue, and the web server.

No label holds what a sender or a person wrote: statuses, reasons, HTTP codes and the names of our processes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Min, Q
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
from stats.monitoring import counters
from stats.monitoring.rules import Kind

log = get_logger(__name__)

#: Series that are there from the start: Prometheus sees no increase in one that begins at 1.
_USUAL_CODES = ("200", "400", "401", "403", "404", "422", "429", "500", "502", "503", "504", "none")

#: How many processes are told of, the latest seen first.
_MOST_PROCESSES = 100

#: How long the queue may take to say how deep it is, beside the database; it is bounded by itself.
_QUEUE_TIMEOUT_S = 1.0

# Beside, so that two frozen neighbours cost no more than one.
_beside = ThreadPoolExecutor(max_workers=2, thread_name_prefix="metrics")


def figures(*, now: datetime, reach: timedelta, read: timedelta) -> CollectorRegistry:
    """Return all figures that can be had. With the database away, that is said, and what came from it is not there.

    :param reach: how long to wait for the database to be there.
    :param read: how long it may then take.
    """
    depths = _beside.submit(queue.depths)
    stored = _stored(now=now, reach=reach, read=read)
    registry = CollectorRegistry()
    registry.register(
        _Fixed(
            [
                InfoMetricFamily("lead_gateway", "What runs here.", value={"version": __version__}),
                _gauge("database_up", "Whether the database answers: 1 or 0.", stored is not None),
                *(stored or []),
                *_queue(depths),
                *web_server.measured().collect(),
            ]
        )
    )
    return registry


class _Fixed(Collector):
    """Hands out what has been found already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lead_gateway_{name}", what, value=value)


def _queue(depths: Future[dict[str, int]]) -> Iterator[Metric]:
    waiting: dict[str, int] | None
    try:
        waiting = depths.result(_QUEUE_TIMEOUT_S)
    except (queue.QueueUnavailable, TimeoutError):
        waiting = None
    yield _gauge("queue_up", "Whether the queue answers: 1 or 0.", waiting is not None)
    if waiting is not None:
        what = "Doorbells that wait for a worker, by queue; without those that ring later."
        depth = GaugeMetricFamily("lead_gateway_queue_depth", what, labels=["queue"])
        for name, number in waiting.items():
            depth.add_metric([name], number)
        yield depth


# --- from the database -----------------------------------------------------------------------------------------------


def _stored(*, now: datetime, reach: timedelta, read: timedelta) -> list[Metric] | None:
    """Return what the database tells; None when it is away."""
    try:
        with db.deadline(reach):
            connection.ensure_connection()
        with db.deadline(read):
            counter_totals = counters.kept()
            rows = [*_counters(counters.read(counter_totals)), *_leads(counter_totals.closed, now=now)]
            return [*rows, *_gate(), _heartbeats(), *_watch()]
    except db.UNAVAILABLE as error:
        log.error("database_error", exc_info=error)
        return None


def _leads(closed: dict[str, int], *, now: datetime) -> Iterator[Metric]:
    """Count what is under way now, of which there is little; what is done with was counted within the last minute."""
    in_progress = InboundLead.objects.filter(status__in=OPEN_STATUSES)
    goes_on = Q(next_attempt_at__isnull=False)
    found = in_progress.values_list("status").annotate(n=Count("*"), oldest=Min("received_at", filter=goes_on))
    rows = list(found.order_by())
    leads = GaugeMetricFamily("lead_gateway_leads", "Leads by status.", labels=["status"])
    current = closed | {status: number for status, number, _ in rows}
    for status in LeadStatus.values:
        leads.add_metric([status], current.get(status, 0))
    yield leads
    yield _age(
        "oldest_undelivered", "Since the oldest lead came that is still to go out", [row[2] for row in rows], now
    )
    due = InboundLead.objects.due(now).aggregate(number=Count("*"), since=Min("next_attempt_at"))
    yield _gauge("leads_due", "Leads that somebody should work on, and nobody does.", due["number"])
    yield _age("oldest_due", "Since the first of these leads has been due", [due["since"]], now)
    attention = InboundLead.objects.filter(NEEDS_ATTENTION).count()
    yield _gauge("leads_needing_attention", "Leads that only an operator can bring further.", attention)


def _age(name: str, what: str, moments: list[datetime | None], now: datetime) -> Metric:
    seconds = [(now - moment).total_seconds() for moment in moments if moment is not None]
    return _gauge(f"{name}_seconds", f"{what}; 0: there is none.", max(0.0, *seconds) if seconds else 0)


def _gate() -> Iterator[Metric]:
    gate = DeliveryControl.objects.current()
    what = "Since when the customer is taken for down, and leads wait; 0: it is not."
    yield _gauge(
        "circuit_open_since_timestamp_seconds",
        what,
        gate.circuit_opened_at.timestamp() if gate.circuit_opened_at else 0,
    )
    what = "Since when somebody holds delivery, and leads wait; 0: nobody does."
    yield _gauge("delivery_paused_since_timestamp_seconds", what, gate.paused_at.timestamp() if gate.paused_at else 0)


def _heartbeats() -> Metric:
    seen = GaugeMetricFamily(
        "lead_gateway_heartbeat_timestamp_seconds",
        "When a worker or beat last said that it lives.",
        labels=["kind", "name"],
    )
    for process in Heartbeat.objects.order_by("-seen_at")[:_MOST_PROCESSES]:
        seen.add_metric([process.kind, process.name], process.seen_at.timestamp())
    return seen


def _watch() -> Iterator[Metric]:
    open_now = Counter(Incident.objects.filter(closed_at=None).values_list("kind", flat=True))
    incidents = GaugeMetricFamily(
        "lead_gateway_incident_open", "Incidents that are not over, by what is wrong.", labels=["kind"]
    )
    for kind in Kind:
        incidents.add_metric([kind], open_now[kind])
    yield incidents
    watch = MonitoringState.objects.filter(pk=1).first()
    if watch is not None and watch.checked_at is not None:
        yield _gauge(
            "monitoring_timestamp_seconds", "When the pipeline was last checked.", watch.checked_at.timestamp()
        )


# --- counters --------------------------------------------------------------------------------------------------------


def _counters(counted: counters.Totals) -> Iterator[Metric]:
    yield _counter("leads_accepted", "Leads that were stored.", counted["received"])
    yield _counter("duplicates", "Posts that were recognised as a lead we had.", counted["duplicate"])
    yield _counter("circuit_openings", "How often the customer was taken for down.", counted[EventKind.CIRCUIT_OPENED])
    yield _labelled("leads_entered", "Leads that came into a status.", "status", counted, "entered", LeadStatus.values)
    reasons = [*RejectionReason, "other"]
    yield _labelled("leads_rejected", "Leads not to be delivered, by reason.", "reason", counted, "stopped", reasons)
    yield _attempts(counted)
    yield _delivery_times(counted)


def _counter(name: str, what: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"lead_gateway_{name}", what, value=value)


def _labelled(
    name: str, what: str, label: str, counted: counters.Totals, series: str, values: Iterable[str]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"lead_gateway_{name}", what, labels=[label])
    for value in values:
        family.add_metric([value], counted[f"{series}|{value}"])
    return family


def _attempts(counted: counters.Totals) -> CounterMetricFamily:
    """Count attempts by outcome and HTTP status; the database holds none but 100 to 599."""
    family = CounterMetricFamily(
        "lead_gateway_delivery_attempts",
        "Attempts to deliver, by outcome and HTTP status (none: there was no answer).",
        labels=["outcome", "code"],
    )
    seen = {name.partition("|")[2] for name in counted if name.startswith("attempts|")}
    for code in sorted(seen.union(_USUAL_CODES)):
        family.add_metric([counters.outcome(code), code], counted[f"attempts|{code}"])
    return family


def _delivery_times(counted: counters.Totals) -> HistogramMetricFamily:
    buckets = [(floatToGoString(bound), counted[f"delivered|{bound:g}"]) for bound in counters.BOUNDS]
    return HistogramMetricFamily(
        "lead_gateway_accepted_to_delivered_seconds",
        "How long after its acceptance a lead was delivered; without redelivered ones.",
        buckets=[*buckets, ("+Inf", counted["delivered"])],
        sum_value=counted["delivered_ms"] / 1000,
    )
