"""The sweep: rings for every lead that is due, that nobody works on and that the gate lets out.

Whatever became of a doorbell (lost with Redis, with a worker, never rung), the lead is found here.
"""

from datetime import datetime, timedelta
from itertools import chain, zip_longest

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from delivery.control.limits import NO_LIMITS, Limits, queued_leads
from delivery.models import DeliveryControl
from leadgateway import queue
from leadgateway.logging import get_logger
from leads.models import InboundLead, LeadQuerySet, LeadStatus

log = get_logger(__name__)

#: How many leads one sweep rings for, and how deep the queue may be for ringing again.
BATCH = 1000

#: Of how many leads `enqueue_next` takes one, as others are at it.
_CANDIDATES = 10


def sweep(*, now: datetime, limits: Limits = NO_LIMITS, window: timedelta = timedelta(seconds=5)) -> int:
    """Ring for what is due at `at`; return for how many leads.

    While the gate is shut that is for new leads, which can be checked all the same, and for one that tries whether
    the customer is back.

    :param window: how long until the next sweep.
    :raises django.db.Error: the database is away; the next sweep finds the same leads.
    """
    gate, due = DeliveryControl.objects.current(), InboundLead.objects.due(now)
    if gate.is_blocked:
        leads = _choose(due.filter(status=LeadStatus.RECEIVED), now=now, most=BATCH)
        leads += [lead for lead in _probes(gate, due, now=now) if lead not in leads]
        waits = [timedelta()] * len(leads)
    else:
        waits = queued_leads(gate, limits, now=now, window=window, most=BATCH)
        leads = _choose(due, now=now, most=len(waits))
    rung = _enqueue(leads, waits, now=now)
    if rung:
        log.info("sweep_enqueued", leads=rung)
    return rung


def enqueue_next(*, now: datetime) -> None:
    """Ring for one lead that waits, since another has come back from the customer."""
    if DeliveryControl.objects.current().is_blocked:
        return
    due = InboundLead.objects.due(now)
    for lead_id in _by_turns(*_never_enqueued(due, _CANDIDATES))[:_CANDIDATES]:
        if _mark([lead_id], now=now, enqueue_at=now):
            _enqueue_marked([lead_id], [timedelta()], enqueue_at=now)
            return


def _choose(leads: LeadQuerySet, *, now: datetime, most: int) -> list[int]:
    """Return leads to ring for, the longest due of each kind by turns.

    A lead whose doorbell was lost takes its turn too: on a busy day there is always one that was never rung for.
    """
    return _by_turns(*_never_enqueued(leads, most), _presumed_lost(leads, now=now, most=most))[:most]


def _probes(gate: DeliveryControl, due: LeadQuerySet, *, now: datetime) -> list[int]:
    """Return one lead if it may try whether the customer is back."""
    may_try = gate.paused_at is None and gate.circuit(now) == "half_open"
    return _choose(due, now=now, most=1) if may_try else []


def _never_enqueued(leads: LeadQuerySet, most: int) -> tuple[list[int], list[int]]:
    """Return the longest due of those that wait: of those that were never sent, and of those that were."""
    waiting = leads.filter(enqueued_at=None).order_by("next_attempt_at").values_list("pk", flat=True)
    new, again = waiting.exclude(status=LeadStatus.FAILED), waiting.filter(status=LeadStatus.FAILED)
    return list(new[:most]), list(again[:most])


def _by_turns(*kinds: list[int]) -> list[int]:
    return [lead_id for lead_id in chain.from_iterable(zip_longest(*kinds)) if lead_id is not None]


def _presumed_lost(leads: LeadQuerySet, *, now: datetime, most: int) -> list[int]:
    """Return leads whose doorbell seems lost; none while the queue is deep, as theirs are still in it."""
    lost = leads.filter(enqueued_at__lt=now - settings.REQUEUE_AFTER).order_by("next_attempt_at")
    found = list(lost.values_list("pk", flat=True)[:most])
    return found if found and _queue_is_shallow() else []


def _queue_is_shallow() -> bool:
    try:
        return queue.depth() <= BATCH
    except queue.QueueUnavailable:
        return False


def _enqueue(leads: list[int], waits: list[timedelta], *, now: datetime) -> int:
    """Mark first, then ring: a mark without a doorbell is found again, while a late mark would hide a new one."""
    enqueue_at = now + max(waits[: len(leads)], default=timedelta())
    marked = _mark(leads, now=now, enqueue_at=enqueue_at)
    return _enqueue_marked([lead for lead in leads if lead in marked], waits, enqueue_at=enqueue_at)


def _mark(leads: list[int], *, now: datetime, enqueue_at: datetime) -> set[int]:
    """Note that these are rung for, and return those that nobody else was just about to ring for or to work on."""
    not_rung = Q(enqueued_at=None) | Q(enqueued_at__lt=now - settings.REQUEUE_AFTER)
    free = InboundLead.objects.due(now).filter(not_rung, pk__in=leads).select_for_update(skip_locked=True, no_key=True)
    with transaction.atomic():
        marked = set(free.values_list("pk", flat=True))
        InboundLead.objects.filter(pk__in=marked).update(enqueued_at=enqueue_at)
    return marked


def _enqueue_marked(leads: list[int], waits: list[timedelta], *, enqueue_at: datetime) -> int:
    for done, (lead_id, wait) in enumerate(zip(leads, waits, strict=False)):
        try:
            queue.enqueue(lead_id, after=wait, again=True)
        except queue.QueueUnavailable as error:
            log.warning("sweep_stopped", reason=str(error), leads=len(leads) - done)
            InboundLead.objects.filter(pk__in=leads[done:], enqueued_at=enqueue_at).update(enqueued_at=None)
            return done
    return len(leads)
