"""The actions that an operator can take on one lead. Each records the operator and the reason in the audit log."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Max, TextChoices
from django.utils.translation import gettext_lazy as _

from leadgateway import queue
from leads.audit.recording import build_event, record
from leads.models import NEEDS_ATTENTION, OPEN_STATUSES, EventKind, InboundLead, LeadStatus
from leads.rules import RejectionReason
from leads.status import ClaimLost, TransitionNotAllowed, change_status


class SkipReason(TextChoices):
    """Why an action was not applied to a lead.

    The value is the code stored in `BulkActionItem.skip_reason`, the label is the sentence shown to people. The labels
    are defined here and not in `stats.text` because this package's management commands print them too.
    """

    NOT_FOUND = "not_found", _("Lead {id} does not exist")
    BEING_DELIVERED = "being_delivered", _("Lead {id} is being delivered right now")
    IN_PROGRESS = "in_progress", _("Lead {id} is already in progress")
    REJECTED = "rejected", _("Lead {id} was rejected; reprocess it instead")
    DELIVERED = "delivered", _("Lead {id} was already delivered")
    NO_CUSTOMER_PAYLOAD = "no_customer_payload", _("Lead {id} has no customer payload; reprocess it instead")
    MISSING_REQUIRED_FIELD = (
        "missing_required_field",
        _("Lead {id} lacks a field that the customer requires; reprocess it instead"),
    )
    ERASED = "erased", _("Lead {id} was erased; it has no data left")
    NO_ATTENTION_NEEDED = "no_attention_needed", _("Lead {id} does not need attention")

    def describe(self, lead_id: int) -> str:
        """Return the reason as a sentence about a lead, in the active language and without a full stop."""
        return str(self.label).format(id=lead_id)


class ActionNotAllowed(Exception):
    """The action cannot be applied to the lead in its current state. The message is the reason as a sentence."""

    def __init__(self, reason: SkipReason, lead_id: int) -> None:
        super().__init__(reason.describe(lead_id))
        self.reason = reason


#: The reason to give when the status machine does not allow an action to leave a status.
_SKIP_REASONS = {
    LeadStatus.RECEIVED: SkipReason.IN_PROGRESS,
    LeadStatus.READY: SkipReason.IN_PROGRESS,
    LeadStatus.REJECTED: SkipReason.REJECTED,
    LeadStatus.DELIVERED: SkipReason.DELIVERED,
}


def redeliver(
    lead_id: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
    bulk_action_id: int | None = None,
    include_delivered: bool = True,
) -> None:
    """Make the lead's existing customer payload due for delivery, with a new retry schedule.

    The Idempotency-Key stays the same, so that the customer can recognise the lead. The caller enqueues the lead.

    :raises ActionNotAllowed: the lead does not exist, was erased, is in progress, has no complete customer payload, or
        was delivered and `include_delivered` is false.
    """
    with transaction.atomic():
        lead = _lock_lead(lead_id)
        if lead.status == LeadStatus.DELIVERED and not include_delivered:
            raise ActionNotAllowed(SkipReason.DELIVERED, lead_id)
        if lead.status == LeadStatus.RECEIVED:  # a worker has yet to create its customer payload
            raise ActionNotAllowed(SkipReason.IN_PROGRESS, lead_id)
        if not lead.customer_payload:
            raise ActionNotAllowed(SkipReason.NO_CUSTOMER_PAYLOAD, lead_id)
        if lead.rejection_reason == RejectionReason.MISSING_REQUIRED_FIELD:
            raise ActionNotAllowed(SkipReason.MISSING_REQUIRED_FIELD, lead_id)
        detail = _event_detail(reason, bulk_action_id)
        _restart(lead, LeadStatus.READY, EventKind.REDELIVERED, actor=actor, detail=detail, now=now)


def reprocess(lead_id: int, *, actor: str, reason: str, now: datetime, bulk_action_id: int | None = None) -> None:
    """Restart the lead from its raw payload: rules, normalization, mapping, delivery. The caller enqueues the lead.

    Use it for leads that a changed rule or mapping file treats differently.

    :raises ActionNotAllowed: the lead does not exist, was erased, is in progress, or was delivered.
    """
    with transaction.atomic():
        lead = _lock_lead(lead_id)
        detail = _event_detail(reason, bulk_action_id)
        _restart(lead, LeadStatus.RECEIVED, EventKind.REPROCESSED, actor=actor, detail=detail, now=now)


def resolve(lead_id: int, *, actor: str, reason: str, now: datetime, bulk_action_id: int | None = None) -> None:
    """Remove the lead from the list of leads that need attention. Its status stays, and nothing is sent.

    :raises ActionNotAllowed: the lead does not exist, was erased, or does not need attention.
    """
    with transaction.atomic():
        lead = _lock_lead(lead_id)
        if not InboundLead.objects.filter(NEEDS_ATTENTION, pk=lead_id).update(resolved_at=now, updated_at=now):
            raise ActionNotAllowed(SkipReason.NO_ATTENTION_NEEDED, lead_id)
        record(lead, EventKind.RESOLVED, actor=actor, now=now, detail=_event_detail(reason, bulk_action_id))


def release(lead_id: int, *, now: datetime) -> bool:
    """Make a lead that waits for its next attempt due at `now`, and return whether it was changed.

    Leads that a worker has claimed, and leads without a next attempt, are not changed.
    """
    waiting = InboundLead.objects.filter(pk=lead_id, status__in=OPEN_STATUSES, next_attempt_at__isnull=False)
    return waiting.exclude(claimed_until__gt=now).update(next_attempt_at=now, enqueued_at=None, updated_at=now) == 1


def enqueue(lead_ids: Sequence[int], *, now: datetime) -> None:
    """Enqueue leads that the functions above have made due, with one message.

    :raises QueueUnavailable: the queue did not take the message. The leads stay due, and the sweep enqueues them later.
    """
    queue.enqueue(lead_ids, is_retry=True)
    # A worker may have claimed a lead since; then the message is used up.
    unclaimed = InboundLead.objects.filter(pk__in=lead_ids, claim_token=None, next_attempt_at__lte=now)
    unclaimed.update(enqueued_at=now)


def _lock_lead(lead_id: int) -> InboundLead:
    try:
        lead = InboundLead.objects.select_for_update().get(pk=lead_id)
    except InboundLead.DoesNotExist:
        raise ActionNotAllowed(SkipReason.NOT_FOUND, lead_id) from None
    if lead.erased_at is not None:
        raise ActionNotAllowed(SkipReason.ERASED, lead_id)
    return lead


def _event_detail(reason: str, bulk_action_id: int | None) -> dict[str, object]:
    return {"reason": reason} if bulk_action_id is None else {"reason": reason, "bulk_action": bulk_action_id}


def _restart(
    lead: InboundLead, to: LeadStatus, kind: EventKind, *, actor: str, detail: dict[str, object], now: datetime
) -> None:
    """Make the lead due in status `to`, with none of its previous attempts counted."""
    if lead.claimed_until is not None and lead.claimed_until > now:
        raise ActionNotAllowed(SkipReason.BEING_DELIVERED, lead.pk)
    old_status = LeadStatus(lead.status)
    try:
        change_status(
            lead,
            to,
            actor=actor,
            now=now,
            by_operator=True,
            events_before=[build_event(lead, kind, actor=actor, now=now, detail=detail)],
            columns={
                "uncounted_attempts": lead.attempts.aggregate(last=Max("attempt_no"))["last"] or 0,
                "next_attempt_at": now,
                "rejection_reason": None,
                "resolved_at": None,
                "claim_token": None,
                "claimed_until": None,
                "enqueued_at": None,
            },
        )
    except TransitionNotAllowed as error:
        raise ActionNotAllowed(_SKIP_REASONS[old_status], lead.pk) from error
    except ClaimLost as error:  # SQLite has no row locks: a worker can change the lead after _lock_lead
        raise ActionNotAllowed(SkipReason.BEING_DELIVERED, lead.pk) from error
