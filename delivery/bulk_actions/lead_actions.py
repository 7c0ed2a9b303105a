"""What an operator may order for a lead, each with a name and a reason in the trail."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, TextChoices
from django.utils.translation import gettext_lazy as _

from leads.audit.recording import record
from leads.models import NEEDS_ATTENTION, OPEN_STATUSES, EventKind, InboundLead, LeadStatus
from leads.rules import RejectionReason
from leads.status import ClaimLost, TransitionNotAllowed, change_status


class Refusal(TextChoices):
    """Why an order does not fit a lead, in words for people."""

    UNKNOWN = "unknown", _("there is no lead {id}")
    IN_HAND = "in_hand", _("lead {id} is being delivered right now")
    IN_PROGRESS = "in_progress", _("lead {id} is under way already")
    REJECTED = "rejected", _("lead {id} was rejected; reprocess it")
    DELIVERED = "delivered", _("lead {id} was delivered already")
    UNMAPPED = "unmapped", _("lead {id} has no customer payload; reprocess it")
    INCOMPLETE = "incomplete", _("lead {id} lacks what the customer requires; reprocess it")
    ERASED = "erased", _("lead {id} was erased; nothing is left to send")
    AT_REST = "at_rest", _("lead {id} needs no attention")

    def describe(self, lead_id: int) -> str:
        """Return the reason as a sentence about a lead, in the reader's language."""
        return str(self.label).format(id=lead_id)


class ActionRefused(Exception):
    """The order does not fit the lead as it stands; the text says why."""


class ActionNotAllowed(ActionRefused):
    """The same, for a reason that can be stored and told in any language."""

    def __init__(self, why: Refusal, lead_id: int) -> None:
        super().__init__(why.describe(lead_id))
        self.why = why


#: Why a status is one that an order does not apply to; the two that are not here are open to every order.
_REFUSED_STATUS = {
    LeadStatus.RECEIVED: Refusal.IN_PROGRESS,
    LeadStatus.READY: Refusal.IN_PROGRESS,
    LeadStatus.REJECTED: Refusal.REJECTED,
    LeadStatus.DELIVERED: Refusal.DELIVERED,
}


def redeliver(
    lead_id: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
    bulk_action: int | None = None,
    include_delivered: bool = True,
) -> None:
    """Send the lead's customer payload once more, with a fresh retry schedule; the caller rings.

    The customer recognises it by the same Idempotency-Key. A lead that waits for its next attempt goes out at once.

    :raises ActionRefused: it is unknown, under way, was never mapped or not completely, or was delivered and
        `include_delivered` is not set.
    """
    with transaction.atomic():
        lead = _get(lead_id)
        if lead.status == LeadStatus.DELIVERED and not include_delivered:
            raise ActionNotAllowed(Refusal.DELIVERED, lead_id)
        if not lead.customer_payload:
            raise ActionNotAllowed(Refusal.UNMAPPED, lead_id)
        if lead.rejection_reason == RejectionReason.MISSING_REQUIRED_FIELD:
            raise ActionNotAllowed(Refusal.INCOMPLETE, lead_id)
        told = _told(reason, bulk_action)
        _start_anew(lead, LeadStatus.READY, EventKind.REDELIVERED, actor=actor, told=told, now=now)


def reprocess(lead_id: int, *, actor: str, reason: str, now: datetime, bulk_action: int | None = None) -> None:
    """Start the lead over from its raw payload: rules, normalization, mapping, delivery; the caller rings.

    For leads that a changed rule or mapping file would treat differently. A delivered lead cannot be reprocessed.

    :raises ActionRefused: it is unknown, under way, or was delivered.
    """
    with transaction.atomic():
        told = _told(reason, bulk_action)
        _start_anew(_get(lead_id), LeadStatus.RECEIVED, EventKind.REPROCESSED, actor=actor, told=told, now=now)


def resolve(lead_id: int, *, actor: str, reason: str, now: datetime, bulk_action: int | None = None) -> None:
    """Take the lead off the list of those that need attention; its status stays, and nothing is sent.

    :raises ActionRefused: it is unknown, or needs no attention.
    """
    with transaction.atomic():
        lead = _get(lead_id)
        if not InboundLead.objects.filter(NEEDS_ATTENTION, pk=lead_id).update(resolved_at=now, updated_at=now):
            raise ActionNotAllowed(Refusal.AT_REST, lead_id)
        record(lead, EventKind.RESOLVED, actor=actor, now=now, detail=_told(reason, bulk_action))


def release(lead_id: int, *, now: datetime) -> bool:
    """Make a lead due now: for one that waits for its next attempt, or whose doorbell is thought lost.

    A lead that a worker has in its hands is left alone, and so is one that nothing will happen to by itself.
    Tell whether it was released.
    """
    free = InboundLead.objects.filter(pk=lead_id, status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    return free.exclude(claimed_until__gt=now).update(next_attempt_at=now, enqueued_at=None, updated_at=now) == 1


def _get(lead_id: int) -> InboundLead:
    try:
        lead = InboundLead.objects.select_for_update().get(pk=lead_id)
    except InboundLead.DoesNotExist:
        raise ActionNotAllowed(Refusal.UNKNOWN, lead_id) from None
    if lead.erased_at is not None:
        raise ActionNotAllowed(Refusal.ERASED, lead_id)
    return lead


def _told(reason: str, bulk_action: int | None) -> dict[str, Any]:
    return {"reason": reason} if bulk_action is None else {"reason": reason, "bulk_action": bulk_action}


def _start_anew(
    lead: InboundLead, to: LeadStatus, kind: EventKind, *, actor: str, told: dict[str, Any], now: datetime
) -> None:
    """Make the lead due in status `to`, as if it had never been tried; its attempts stay in the trail."""
    if lead.claimed_until is not None and lead.claimed_until > now:
        raise ActionNotAllowed(Refusal.IN_HAND, lead.pk)
    made = lead.attempts.aggregate(last=Max("attempt_no"))["last"] or 0
    was = LeadStatus(lead.status)
    record(lead, kind, actor=actor, now=now, detail=told)
    try:
        change_status(
            lead,
            to,
            actor=actor,
            now=now,
            by_operator=True,
            uncounted_attempts=made,
            next_attempt_at=now,
            rejection_reason=None,
            resolved_at=None,
            claim_token=None,
            claimed_until=None,
            enqueued_at=None,
        )
    except TransitionNotAllowed as error:
        raise ActionNotAllowed(_REFUSED_STATUS[was], lead.pk) from error
    except ClaimLost as error:  # a worker was faster, where the database locks no single row
        raise ActionNotAllowed(Refusal.IN_HAND, lead.pk) from error
