"""Process bulk actions, one lead and one transaction at a time. Changed leads are enqueued together.

The transaction that changes a lead also stores the item's outcome and the new counts of the bulk action. A worker can
therefore stop anywhere: an item without an outcome was not processed, and the next worker continues there.
"""

from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.bulk_actions.lead_actions import ActionNotAllowed, SkipReason
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from delivery.sweep import LEADS_PER_MESSAGE
from leadgateway import queue
from leadgateway.logging import get_logger

log = get_logger(__name__)

#: Bulk actions with at most this many leads are processed in the request that creates them.
IMMEDIATE_MAX_LEADS = 20

#: How long a worker's claim on a bulk action lasts. It is renewed with every lead.
LEASE = timedelta(minutes=1)


def process_pending(*, now: datetime, max_leads: int) -> int:
    """Process the open bulk actions, oldest first, and return the number of processed leads.

    Bulk actions that another worker has claimed at `now` are left to that worker.
    """
    processed = 0
    while processed < max_leads and (oldest := _unclaimed(now).order_by("pk").first()):
        processed += process_one(oldest.pk, now=now, max_leads=max_leads - processed)
    return processed


def process_one(bulk_action_id: int, *, now: datetime, max_leads: int) -> int:
    """Process one bulk action unless another worker has claimed it; return the number of processed leads."""
    claimed_until = now + LEASE
    if not _unclaimed(now).filter(pk=bulk_action_id).update(claimed_until=claimed_until):
        return 0
    processed = 0
    to_enqueue: list[int] = []
    while processed < max_leads:
        renewed = _process_next_lead(bulk_action_id, claimed_until=claimed_until, to_enqueue=to_enqueue)
        if renewed is None:
            break
        processed, claimed_until = processed + 1, renewed
        if len(to_enqueue) == LEADS_PER_MESSAGE:
            _enqueue(to_enqueue)
    _enqueue(to_enqueue)
    _finish_or_release(bulk_action_id, claimed_until=claimed_until)
    return processed


def _enqueue(lead_ids: list[int]) -> None:
    """Enqueue the leads, and empty the list."""
    if lead_ids:
        try:
            lead_actions.enqueue(lead_ids, now=timezone.now())
        except queue.QueueUnavailable as error:  # the sweep enqueues the leads later
            log.warning("enqueue_failed", leads=len(lead_ids), reason=str(error))
    lead_ids.clear()


def _unclaimed(now: datetime) -> QuerySet[BulkAction]:
    is_unclaimed = Q(claimed_until=None) | Q(claimed_until__lt=now)
    return BulkAction.objects.filter(is_unclaimed, finished_at=None, cancelled_at=None)


def _process_next_lead(bulk_action_id: int, *, claimed_until: datetime, to_enqueue: list[int]) -> datetime | None:
    """Process the next lead and return the end of the renewed claim. Add the lead to `to_enqueue` if it is due now.

    Return None if no lead is left or the claim is lost: the bulk action was cancelled, or the claim expired and
    another worker took it.
    """
    now = timezone.now()
    with transaction.atomic():
        claimed = BulkAction.objects.select_for_update().filter(pk=bulk_action_id, claimed_until=claimed_until)
        if (bulk_action := claimed.first()) is None:
            return None
        if (item := bulk_action.items.filter(outcome=None).order_by("pk").first()) is None:
            return None
        skip_reason = _apply(bulk_action, item.lead_id, now=now)
        _store_outcome(bulk_action, item, skip_reason, claimed_until=now + LEASE)
    if skip_reason is None and bulk_action.kind != BulkActionKind.RESOLVE:
        to_enqueue.append(item.lead_id)
    return now + LEASE


def _apply(bulk_action: BulkAction, lead_id: int, *, now: datetime) -> SkipReason | None:
    """Apply the bulk action to one lead; return why the lead was skipped, or None if it was changed."""
    match bulk_action.kind:
        case BulkActionKind.REDELIVER:
            action = partial(lead_actions.redeliver, include_delivered=bulk_action.include_delivered)
        case BulkActionKind.REPROCESS:
            action = partial(lead_actions.reprocess)
        case _:
            action = partial(lead_actions.resolve)
    try:
        action(lead_id, actor=bulk_action.actor, reason=bulk_action.reason, now=now, bulk_action_id=bulk_action.pk)
    except ActionNotAllowed as error:
        return error.reason
    return None


def _store_outcome(
    bulk_action: BulkAction, item: BulkActionItem, skip_reason: SkipReason | None, *, claimed_until: datetime
) -> None:
    """Store the item's outcome, add it to the counts of the bulk action, and renew the claim."""
    outcome = BulkActionItem.Outcome.DONE if skip_reason is None else BulkActionItem.Outcome.SKIPPED
    BulkActionItem.objects.filter(pk=item.pk).update(outcome=outcome, skip_reason=skip_reason)
    count = outcome.value  # the columns that count outcomes have the names of the outcomes
    BulkAction.objects.filter(pk=bulk_action.pk).update(claimed_until=claimed_until, **{count: F(count) + 1})


def _finish_or_release(bulk_action_id: int, *, claimed_until: datetime) -> None:
    """Mark the bulk action as finished, or release the claim if leads are left."""
    leads_left = BulkActionItem.objects.filter(bulk_action=bulk_action_id, outcome=None).exists()
    claimed = BulkAction.objects.filter(pk=bulk_action_id, claimed_until=claimed_until)
    changed = claimed.update(claimed_until=None, finished_at=None if leads_left else timezone.now())
    if changed and not leads_left:
        log.info("bulk_action_finished", bulk_action=bulk_action_id)
