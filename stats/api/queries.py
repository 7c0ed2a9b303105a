"""What is read of the leads. The shapes of counts, recent and history are the seed's, field for field, in its order."""

from datetime import datetime
from typing import Any

from django.db.models import Count

from delivery.models import DeliveryAttempt
from leadgateway.time_format import timestamp
from leads.models import InboundLead, LeadEvent, LeadStatus
from stats.text.status_summary import Attempts, error_text, running_attempt

#: The seed's number of leads in `recent`.
RECENT = 50


def counts() -> dict[str, int]:
    """Return how many leads are in each status, and in total; one query, so that they add up."""
    found = dict(InboundLead.objects.values_list("status").annotate(leads=Count("pk")))
    return {status.lower(): found.get(status, 0) for status in LeadStatus.values} | {"total": sum(found.values())}


def recent() -> list[dict[str, Any]]:
    """Return the leads received last, newest first."""
    leads = InboundLead.objects.order_by("-received_at", "-pk")
    return [_summary(lead) for lead in leads.only("pk", "received_at", "status", "rejection_reason")[:RECENT]]


def find_lead(lead_id: int) -> InboundLead | None:
    """Return a lead without what nobody is shown here, its headers; None when there is none, however large the id."""
    return InboundLead.objects.defer("source_headers").filter(pk=lead_id).first()


def attempts_of(lead_id: int) -> list[DeliveryAttempt]:
    """Return a lead's attempts in order, without the customer's answers."""
    return list(DeliveryAttempt.objects.defer("response_body").filter(lead=lead_id).order_by("attempt_no"))


def events_of(lead_id: int) -> list[LeadEvent]:
    """Return what happened to a lead, in order."""
    return list(LeadEvent.objects.filter(lead=lead_id).order_by("pk"))


def history(lead: InboundLead, attempts: Attempts, *, now: datetime) -> dict[str, Any]:
    """Return everything about a lead that the seed's history shows; payloads are personal data.

    :param attempts: in order.
    :param now: taken before lead and attempts were read.
    """
    return {**_summary(lead), **payloads(lead), "delivery_attempts": delivery_attempts(lead, attempts, now=now)}


def payloads(lead: InboundLead) -> dict[str, Any]:
    """Return the lead as it came, as it was normalized and as the customer gets it."""
    return {name: getattr(lead, name) for name in ("raw_payload", "normalized_payload", "customer_payload")}


def delivery_attempts(lead: InboundLead, attempts: Attempts, *, now: datetime) -> list[dict[str, Any]]:
    """Return a lead's attempts as the seed shows them; parameters as for `history`."""
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
