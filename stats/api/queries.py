"""Queries of the HTTP API. Fields and their order in counts, recent and history are those of the specification."""

from datetime import datetime
from typing import Any

from delivery.models import DeliveryAttempt
from leadgateway.time_format import timestamp
from leads.models import InboundLead, LeadEvent, LeadStatus
from stats.monitoring import counters
from stats.text.status_summary import Attempts, error_text, running_attempt

#: Number of leads in `recent`, from the specification.
RECENT = 50


def counts() -> dict[str, int]:
    """Return how many leads are in each status, and in total."""
    by_status = counters.leads_by_status()
    return {status.lower(): by_status[status] for status in LeadStatus.values} | {"total": by_status.total()}


def recent() -> list[dict[str, Any]]:
    """Return the last received leads, newest first."""
    leads = InboundLead.objects.order_by("-received_at", "-pk")
    return [_summary(lead) for lead in leads.only("pk", "received_at", "status", "rejection_reason")[:RECENT]]


def find_lead(lead_id: int) -> InboundLead | None:
    """Return a lead, without its headers; None if it does not exist, however large the id."""
    return InboundLead.objects.defer("source_headers").filter(pk=lead_id).first()


def attempts_of(lead_id: int) -> list[DeliveryAttempt]:
    """Return a lead's attempts in order, without the customer's response bodies."""
    return list(DeliveryAttempt.objects.defer("response_body").filter(lead=lead_id).order_by("attempt_no"))


def events_of(lead_id: int) -> list[LeadEvent]:
    """Return the events of a lead, in order."""
    return list(LeadEvent.objects.filter(lead=lead_id).order_by("pk"))


def history(lead: InboundLead, attempts: Attempts, *, now: datetime) -> dict[str, Any]:
    """Return the history of a lead with the fields of the specification. Payloads are personal data.

    :param attempts: in order.
    :param now: a time before lead and attempts were read.
    """
    return {**_summary(lead), **payloads(lead), "delivery_attempts": delivery_attempts(lead, attempts, now=now)}


def payloads(lead: InboundLead) -> dict[str, Any]:
    """Return the raw, the normalized and the customer payload of a lead."""
    return {name: getattr(lead, name) for name in ("raw_payload", "normalized_payload", "customer_payload")}


def delivery_attempts(lead: InboundLead, attempts: Attempts, *, now: datetime) -> list[dict[str, Any]]:
    """Return a lead's attempts with the fields of the specification; parameters as for `history`."""
    running = running_attempt(lead, attempts, now=now)
    return [
        {
            "attempt_no": attempt.attempt_no,
            "attempted_at": timestamp(attempt.requested_at),
            "success": attempt.success,
            "status_code": attempt.response_status,
            "error_message": error_text(attempt, running=running),
        }
        for attempt in attempts
    ]


def _summary(lead: InboundLead) -> dict[str, Any]:
    return {
        "id": lead.pk,
        "received_at": timestamp(lead.received_at),
        "status": lead.status,
        "rejection_reason": lead.rejection_reason,
    }
