"""The sweep: enqueue every lead that is due, not claimed and allowed by delivery control.

A lead whose message was lost (with Redis, with a worker, or never sent) is found here.
"""

from datetime import datetime, timedelta
from itertools import chain, groupby, zip_longest
from operator import itemgetter

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from delivery.control.limits import NO_LIMITS, Limits, enqueue_delays
from delivery.models import DeliveryControl
from leadgateway import queue
from leadgateway.logging import get_logger
from leads.models import InboundLead, LeadQuerySet, LeadStatus

log = get_logger(__name__)

#: Maximum number of leads per sweep. While the queue holds more messages than a sweep sends, none counts as lost.
BATCH = 1000

#: Maximum number of leads in one message. More would keep leads waiting behind one worker while another is idle.
LEADS_PER_MESSAGE = 16

#: Number of candidates for each lead of `enqueue_next`. Other workers compete for the same leads.
_CANDIDATES = 10


def sweep(*, now: datetime, limits: Limits = NO_LIMITS, window: timedelta = timedelta(seconds=5)) -> int:
    """Enqueue the leads that are due, and return their number.

    While delivery is paused or the circuit breaker is open, enqueue new leads only, which can still be checked, and
    a lead for a probe when one is due.

    :param window: time until the next sweep.
    :raises django.db.Error: the database is unavailable; the next sweep finds the same leads.
    """
    control, due = DeliveryControl.objects.current(), InboundLead.objects.due(now)
    if control.is_blocked:
        leads = _choose(due.filter(status=LeadStatus.RECEIVED), now=now, most=BATCH)
        leads += [lead for lead in _probe(control, due, now=now) if lead not in leads]
        delays = [timedelta()] * len(leads)
    else:
        delays = enqueue_delays(control, limits, now=now, window=window, most=BATCH)
        leads = _choose(due, now=now, most=len(delays))
    # The leads are marked first: a mark without a message is found later, but a late mark could hide a newer message.
    enqueue_at = now + max(delays[: len(leads)], default=timedelta())
    marked = _mark(leads, now=now, enqueue_at=enqueue_at)
    enqueued = _enqueue_marked([lead for lead in leads if lead in marked], delays, enqueue_at=enqueue_at)
    if enqueued:
        log.info("sweep_enqueued", leads=enqueued)
    return enqueued


def enqueue_next(*, now: datetime, most: int) -> None:
    """Enqueue waiting leads after requests have ended, under a concurrency limit.

    :param most: the maximum number of leads.
    """
    if DeliveryControl.objects.current().is_blocked:
        return
    candidates = most * _CANDIDATES
    waiting = _alternate(*_not_enqueued(InboundLead.objects.due(now), candidates))[:candidates]
    while waiting and most > 0:
        tried, waiting = waiting[:most], waiting[most:]
        marked = sorted(_mark(tried, now=now, enqueue_at=now), key=tried.index)
        _enqueue_marked(marked, [timedelta()] * len(marked), enqueue_at=now)
        most -= len(marked)


def _choose(leads: LeadQuerySet, *, now: datetime, most: int) -> list[int]:
    """Return leads to enqueue: new leads, retries and lost messages alternately, each the longest due first.

    On a busy day there are always leads that were never enqueued; lost messages get their share nevertheless.
    """
    return _alternate(*_not_enqueued(leads, most), _presumed_lost(leads, now=now, most=most))[:most]


def _probe(control: DeliveryControl, due: LeadQuerySet, *, now: datetime) -> list[int]:
    """Return one lead if a probe may be sent."""
    is_allowed = control.paused_at is None and control.circuit(now) == "half_open"
    return _choose(due, now=now, most=1) if is_allowed else []


def _not_enqueued(leads: LeadQuerySet, most: int) -> tuple[list[int], list[int]]:
    """Return leads without a message, the longest due first: those without an attempt, and retries."""
    waiting = leads.filter(enqueued_at=None).order_by("next_attempt_at").values_list("pk", flat=True)
    new, retries = waiting.exclude(status=LeadStatus.FAILED), waiting.filter(status=LeadStatus.FAILED)
    return list(new[:most]), list(retries[:most])


def _alternate(*lists: list[int]) -> list[int]:
    return [lead_id for lead_id in chain.from_iterable(zip_longest(*lists)) if lead_id is not None]


def _presumed_lost(leads: LeadQuerySet, *, now: datetime, most: int) -> list[int]:
    """Return leads whose message is presumed lost. While the queue is deep it can still hold the messages."""
    lost = leads.filter(enqueued_at__lt=now - settings.REQUEUE_AFTER).order_by("next_attempt_at")
    found = list(lost.values_list("pk", flat=True)[:most])
    return found if found and _queue_is_shallow() else []


def _queue_is_shallow() -> bool:
    """Return whether the queue holds at most the messages of one sweep."""
    try:
        return queue.depth() <= BATCH // LEADS_PER_MESSAGE
    except queue.QueueUnavailable:
        return False


def _mark(leads: list[int], *, now: datetime, enqueue_at: datetime) -> set[int]:
    """Mark leads as enqueued, and return those that no other process has just enqueued or claimed."""
    without_message = Q(enqueued_at=None) | Q(enqueued_at__lt=now - settings.REQUEUE_AFTER)
    free = InboundLead.objects.due(now).filter(without_message, pk__in=leads)
    with transaction.atomic():
        marked = set(free.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
        InboundLead.objects.filter(pk__in=marked).update(enqueued_at=enqueue_at)
    return marked


def _enqueue_marked(leads: list[int], delays: list[timedelta], *, enqueue_at: datetime) -> int:
    """Enqueue marked leads, and return their number. When the queue becomes unavailable, unmark the rest."""
    done = 0
    for delay, group in groupby(zip(delays, leads, strict=False), key=itemgetter(0)):
        for _, message in groupby(enumerate(lead for _, lead in group), key=lambda item: item[0] // LEADS_PER_MESSAGE):
            lead_ids = [lead for _, lead in message]
            try:
                queue.enqueue(lead_ids, delay=delay, is_retry=True)
            except queue.QueueUnavailable as error:
                log.warning("sweep_stopped", reason=str(error), leads=len(leads) - done)
                InboundLead.objects.filter(pk__in=leads[done:], enqueued_at=enqueue_at).update(enqueued_at=None)
                return done
            done += len(lead_ids)
    return done
