"""Orders for many leads: fixed when they are placed, then worked off lead by lead, each in a transaction of its own.

In that transaction an item gets its outcome, the lead its event, and the order its new count. So a carrier may die
anywhere: what has no outcome has not been done, and the next carrier goes on with it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import BigIntegerField, F, Q, QuerySet, Value
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leadgateway import queue
from leadgateway.logging import get_logger
from leads.models import NEEDS_ATTENTION, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.rules import RejectionReason

log = get_logger(__name__)

#: How many leads one order may be for.
MOST_LEADS = 100_000

#: Orders of so few leads are carried out at once, by whoever placed them.
AT_ONCE = 20

#: How long a carrier has an order for itself; every lead renews it.
CLAIM = timedelta(minutes=1)

_OPEN = Q(finished_at=None, cancelled_at=None)


class NoLeads(Exception):
    """The order would touch no lead."""


class TooManyLeads(Exception):
    """The order would touch more leads than it may."""


class AlreadyCreated(Exception):
    """The form was sent before; `order` is what it placed then."""

    def __init__(self, order: BulkAction) -> None:
        super().__init__(f"order {order.pk}")
        self.order = order


# --- which leads -----------------------------------------------------------------------------------------------------


def applies(kind: BulkActionKind, *, include_delivered: bool = False) -> Q:
    """Return the condition for the leads that an order would touch; what only a lock can tell is refused later."""
    match kind:
        case BulkActionKind.REDELIVER:
            return _redeliverable(include_delivered)
        case BulkActionKind.REPROCESS:
            statuses = [LeadStatus.REJECTED, LeadStatus.FAILED, LeadStatus.PERMANENTLY_FAILED]
            return Q(status__in=statuses, erased_at=None)
        case BulkActionKind.RESOLVE:
            return NEEDS_ATTENTION


def _redeliverable(include_delivered: bool) -> Q:
    statuses = [
        LeadStatus.FAILED,
        LeadStatus.PERMANENTLY_FAILED,
        *([LeadStatus.DELIVERED] if include_delivered else []),
    ]
    incomplete = Q(rejection_reason=RejectionReason.MISSING_REQUIRED_FIELD)
    return Q(status__in=statuses, customer_payload__isnull=False) & ~incomplete


def eligible(kind: BulkActionKind, leads: QuerySet, *, include_delivered: bool = False) -> QuerySet:
    """Return those of the leads that an order would touch."""
    return leads.filter(applies(kind, include_delivered=include_delivered))


# --- placing and cancelling ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BulkActionRequest:
    """What somebody asks for, and why; `selection` says which leads in words, without personal data."""

    kind: BulkActionKind
    actor: str
    reason: str
    selection: str
    include_delivered: bool = False
    form_token: UUID | None = None


def place(wanted: BulkActionRequest, leads: QuerySet, *, now: datetime, most: int = MOST_LEADS) -> BulkAction:
    """Place an order for those of the leads that it applies to, as they are now.

    :raises NoLeads: it applies to none.
    :raises TooManyLeads: it applies to more than `most`, or than one order may be for.
    :raises AlreadyCreated: the form was sent before.
    """
    with transaction.atomic():
        order = _open(wanted, now=now)
        order.total = _enlist(order, eligible(wanted.kind, leads, include_delivered=wanted.include_delivered))
        if not order.total:
            raise NoLeads
        if order.total > min(most, MOST_LEADS):
            raise TooManyLeads
        order.save(update_fields=["total"])
        told = {"kind": order.kind, "leads": order.total, "reason": order.reason, "selection": order.selection}
        _record(EventKind.BULK_ACTION_CREATED, order, actor=order.actor, now=now, **told)
    log.info("bulk_action_created", bulk_action=order.pk, kind=order.kind, leads=order.total)
    return order


def _open(wanted: BulkActionRequest, *, now: datetime) -> BulkAction:
    """Write the order; the second of two that came from one form waits here for the first."""
    columns = {**vars(wanted), "selection": wanted.selection[:300], "created_at": now}
    if wanted.form_token is None:
        return BulkAction.objects.create(**columns)
    order, is_new = BulkAction.objects.get_or_create(form_token=wanted.form_token, defaults=columns)
    if not is_new:
        raise AlreadyCreated(order)
    return order


def _enlist(order: BulkAction, leads: QuerySet) -> int:
    """Write down the order's leads, the oldest first; return how many, or one too many.

    One statement, so that it is one snapshot, and a hundred thousand leads do not travel here and back.
    """
    chosen = leads.order_by("pk").values_list(Value(order.pk, BigIntegerField()), "pk")[: MOST_LEADS + 1]
    try:
        select, parameters = chosen.query.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO bulk_action_item (bulk_action_id, lead_id) {select}", parameters)
        return int(cursor.rowcount)


def cancel(order_id: int, *, actor: str, now: datetime) -> bool:
    """Leave the rest of an order's leads as they are; tell whether there was anything left to cancel.

    It takes the order out of the hands of whoever works on it, who looks before each lead.
    """
    with transaction.atomic():
        order = BulkAction.objects.filter(_OPEN, pk=order_id)
        if not order.update(cancelled_at=now, cancelled_by=actor, claimed_until=None):
            return False
        cancelled = BulkAction.objects.get(pk=order_id)
        _record(EventKind.BULK_ACTION_CANCELLED, cancelled, actor=actor, now=now, left=cancelled.waiting)
    log.info("bulk_action_cancelled", bulk_action=order_id, left=cancelled.waiting)
    return True


def _record(what: EventKind, order: BulkAction, /, *, actor: str, now: datetime, **detail: Any) -> None:
    """Add an event that is about many leads at once."""
    LeadEvent.objects.create(kind=what, actor=actor, at=now, detail={"bulk_action": order.pk, **detail})


# --- carrying out ----------------------------------------------------------------------------------------------------


def process_pending(*, now: datetime, most: int) -> int:
    """Work on what is ordered, the oldest order first, for at most `most` leads; return for how many.

    An order that somebody else has in hand at `at` is left to them.
    """
    worked = 0
    while worked < most and (order_id := _next_order(now)) is not None:
        worked += process_one(order_id, now=now, most=most - worked)
    return worked


def process_one(order_id: int, *, now: datetime, most: int) -> int:
    """Work on one order, unless somebody else does; return for how many leads."""
    until = now + CLAIM
    if not _unclaimed(now).filter(pk=order_id).update(claimed_until=until):
        return 0
    worked = 0
    while worked < most and (renewed := _work_on_next_lead(order_id, held_until=until)):
        worked, until = worked + 1, renewed
    _put_down(order_id, held_until=until)
    return worked


def _unclaimed(now: datetime) -> QuerySet[BulkAction]:
    return BulkAction.objects.filter(_OPEN & (Q(claimed_until=None) | Q(claimed_until__lt=now)))


def _next_order(now: datetime) -> int | None:
    return _unclaimed(now).order_by("pk").values_list("pk", flat=True).first()


def _work_on_next_lead(order_id: int, *, held_until: datetime) -> datetime | None:
    """Do what was ordered for one lead; return until when the order is held now.

    None: nothing is left, or the order is not ours any more: it was cancelled, or the claim ran out and was taken.
    """
    now = timezone.now()
    with transaction.atomic():
        order = BulkAction.objects.select_for_update().filter(pk=order_id, claimed_until=held_until).first()
        item = order.items.filter(outcome=None).order_by("pk").first() if order else None
        if order is None or item is None:
            return None
        refusal = _give(order, item.lead_id, now=now)
        _write_down(order, item, refusal, held_until=now + CLAIM)
    if refusal is None and order.kind != BulkActionKind.RESOLVE:
        _enqueue(item.lead_id, now=now)
    return now + CLAIM


def _give(order: BulkAction, lead_id: int, *, now: datetime) -> lead_actions.Refusal | None:
    """Give the order for one lead; return why it was skipped, if it was."""
    told: Any = {"actor": order.actor, "reason": order.reason, "bulk_action": order.pk, "now": now}
    try:
        match order.kind:
            case BulkActionKind.REDELIVER:
                lead_actions.redeliver(lead_id, include_delivered=order.include_delivered, **told)
            case BulkActionKind.REPROCESS:
                lead_actions.reprocess(lead_id, **told)
            case BulkActionKind.RESOLVE:
                lead_actions.resolve(lead_id, **told)
    except lead_actions.ActionNotAllowed as refused:
        return refused.why
    return None


def _write_down(
    order: BulkAction, item: BulkActionItem, refusal: lead_actions.Refusal | None, *, held_until: datetime
) -> None:
    """Write what became of a lead, and count it."""
    outcome = BulkActionItem.Outcome.DONE if refusal is None else BulkActionItem.Outcome.SKIPPED
    BulkActionItem.objects.filter(pk=item.pk).update(outcome=outcome, skip_reason=refusal)
    counted: Any = {outcome.value: F(outcome.value) + 1}
    BulkAction.objects.filter(pk=order.pk).update(claimed_until=held_until, **counted)


def why_refused(item: BulkActionItem) -> str:
    """Return why an order did not fit a lead, in the reader's language."""
    return lead_actions.Refusal(str(item.skip_reason)).describe(item.lead_id)


def _enqueue(lead_id: int, *, now: datetime) -> None:
    """Ring for a lead that was made due at `at`; the order stands without it, since the sweep rings as well."""
    try:
        queue.enqueue(lead_id)
    except queue.QueueUnavailable as error:
        log.warning("enqueue_failed", lead_id=lead_id, reason=str(error))
        return
    InboundLead.objects.filter(pk=lead_id, claim_token=None, next_attempt_at=now).update(enqueued_at=now)


def _put_down(order_id: int, *, held_until: datetime) -> None:
    """Let others go on with the order, or close it when nothing is left."""
    is_left = BulkActionItem.objects.filter(bulk_action=order_id, outcome=None).exists()
    held = BulkAction.objects.filter(pk=order_id, claimed_until=held_until)
    if held.update(claimed_until=None, finished_at=None if is_left else timezone.now()) and not is_left:
        log.info("bulk_action_finished", bulk_action=order_id)
