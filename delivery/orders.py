"""What an operator may order for a lead, each with a name and a reason in the trail."""

from datetime import datetime

from django.db import transaction
from django.db.models import Max

from leads.lifecycle import ClaimLost, TransitionRefused, change_status, record
from leads.models import OPEN_STATUSES, EventKind, InboundLead, LeadStatus


class OrderRefused(Exception):
    """The order does not fit the lead as it stands; the text says why."""


def redeliver(lead_id: int, *, actor: str, reason: str, at: datetime) -> None:
    """Send the lead's customer payload once more, with a fresh retry schedule; the caller rings.

    The customer recognises it by the same Idempotency-Key.

    :raises OrderRefused: it is unknown, under way, or was never mapped.
    """
    with transaction.atomic():
        lead = _get(lead_id)
        if not lead.customer_payload:
            raise OrderRefused(f"lead {lead_id} has no customer payload; reprocess it")
        _order(lead, LeadStatus.READY, EventKind.REDELIVERED, actor=actor, reason=reason, at=at)


def reprocess(lead_id: int, *, actor: str, reason: str, at: datetime) -> None:
    """Start the lead over from its raw payload: rules, normalization, mapping, delivery; the caller rings.

    For leads that a changed rule or mapping file would treat differently. A delivered lead cannot be reprocessed.

    :raises OrderRefused: it is unknown, under way, or was delivered.
    """
    with transaction.atomic():
        lead = _get(lead_id)
        _order(lead, LeadStatus.RECEIVED, EventKind.REPROCESSED, actor=actor, reason=reason, at=at)


def release(lead_id: int, *, at: datetime) -> bool:
    """Make a lead due now: for one that waits for its next attempt, or whose doorbell is thought lost.

    A lead that a worker has in its hands is left alone, and so is one that nothing will happen to by itself.
    Tell whether it was released.
    """
    free = InboundLead.objects.filter(pk=lead_id, status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    return free.exclude(claimed_until__gt=at).update(next_attempt_at=at, rung_at=None, updated_at=at) == 1


def _get(lead_id: int) -> InboundLead:
    try:
        return InboundLead.objects.select_for_update().get(pk=lead_id)
    except InboundLead.DoesNotExist:
        raise OrderRefused(f"there is no lead {lead_id}") from None


def _order(lead: InboundLead, to: LeadStatus, kind: EventKind, *, actor: str, reason: str, at: datetime) -> None:
    if lead.claimed_until is not None and lead.claimed_until > at:
        raise OrderRefused(f"lead {lead.pk} is being delivered right now")
    made = lead.attempts.aggregate(last=Max("attempt_no"))["last"] or 0
    was = lead.status
    record(lead, kind, actor=actor, at=at, detail={"reason": reason})
    try:
        change_status(
            lead,
            to,
            actor=actor,
            at=at,
            by_order=True,
            attempts_forgiven=made,
            next_attempt_at=at,
            rejection_reason=None,
            resolved_at=None,
            claim_token=None,
            claimed_until=None,
            rung_at=None,
        )
    except (TransitionRefused, ClaimLost) as error:
        raise OrderRefused(f"lead {lead.pk} is {was}: that order does not apply") from error
