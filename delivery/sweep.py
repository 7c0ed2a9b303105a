"""The sweep: rings for every lead that is due and that nobody works on.

Whatever became of a doorbell (lost with Redis, with a worker, never rung), the lead is found here.
"""

from datetime import datetime, timedelta

from leadgateway import queue
from leadgateway.logging import get_logger
from leads.models import InboundLead

log = get_logger(__name__)

#: A doorbell that nobody answered for so long is taken for lost.
LOST_AFTER = timedelta(seconds=30)

#: How many leads one sweep rings for, and how deep the queue may be for ringing again.
BATCH = 1000


def sweep(*, at: datetime) -> int:
    """Ring for what is due at `at`; return for how many leads.

    :raises django.db.Error: the database is away; the next sweep finds the same leads.
    """
    leads = _never_rung(at) or _rung_in_vain(at)
    rung = _ring(leads, at=at)
    if rung:
        log.info("sweep_rang", leads=rung)
    return rung


def _never_rung(at: datetime) -> list[int]:
    return list(
        InboundLead.objects.due(at)
        .filter(rung_at=None)
        .order_by("next_attempt_at")
        .values_list("pk", flat=True)[:BATCH]
    )


def _rung_in_vain(at: datetime) -> list[int]:
    """Return leads whose doorbell seems lost; none while the queue is deep, as theirs are still in it."""
    lost = InboundLead.objects.due(at).filter(rung_at__lt=at - LOST_AFTER).order_by("next_attempt_at")
    leads = list(lost.values_list("pk", flat=True)[:BATCH])
    return leads if leads and _queue_is_shallow() else []


def _queue_is_shallow() -> bool:
    try:
        return queue.depth() <= BATCH
    except queue.QueueUnavailable:
        return False


def _ring(leads: list[int], *, at: datetime) -> int:
    """Mark first, then ring: a mark without a doorbell is found again, while a late mark would hide a new one."""
    InboundLead.objects.due(at).filter(pk__in=leads).update(rung_at=at)
    for done, lead_id in enumerate(leads):
        try:
            queue.ring(lead_id)
        except queue.QueueUnavailable as error:
            log.warning("sweep_stopped", reason=str(error), leads=len(leads) - done)
            InboundLead.objects.due(at).filter(pk__in=leads[done:], rung_at=at).update(rung_at=None)
            return done
    return len(leads)
