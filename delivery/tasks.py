"""Celery's side: the doorbell's tasks. They hold no rule and no state; what is due is in the database."""

from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from delivery import sweep as sweeping
from delivery.bulk_actions import processing
from delivery.configuration import current, limits
from delivery.pipeline import LONGEST_COUNTDOWN, advance
from delivery.privacy import retention
from leadgateway import queue, tracing
from leadgateway.logging import get_logger
from leads.models import InboundLead

log = get_logger(__name__)

#: Our own infrastructure, not the customer: tried again with Celery's backoff. When that is lost too, the sweep rings.
_INFRASTRUCTURE_ERRORS = (OperationalError, InterfaceError)

#: Of retention: with the others of a day, more than a gateway takes in.
_BATCHES_AN_HOUR = 20


@shared_task(
    name="process_lead",
    bind=True,
    autoretry_for=_INFRASTRUCTURE_ERRORS,
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=5,
    ignore_result=True,
)
def process_lead(self: Task, lead_id: int, **_: Any) -> None:
    """Look at a lead, do what is due, and ring again when the next attempt is."""
    # A doorbell of the sweep has no trace to go on with; one begins, and the correlation id tells where it belongs.
    rung_with = self.request.headers or {}
    with tracing.span("process_lead", "CONSUMER", {tracing.LEAD_ID: lead_id}, within=rung_with):
        if self.request.eta and not self.request.retries and _requeue_after_countdown(lead_id):
            return
        _advance(lead_id)


def _advance(lead_id: int) -> None:
    due = advance(lead_id, config=current())
    if due is None:
        return
    wait = due - timezone.now()
    if wait > LONGEST_COUNTDOWN:
        return
    try:
        queue.enqueue(lead_id, after=wait, again=True)
    except queue.QueueUnavailable as error:
        log.warning("enqueue_failed", lead_id=lead_id, reason=str(error))
        InboundLead.objects.filter(pk=lead_id, enqueued_at=due).update(enqueued_at=None)


def _requeue_after_countdown(lead_id: int) -> bool:
    """Put a doorbell whose countdown is over into the queue, so that all workers share it and new leads get between.

    All countdowns are in one worker's memory, and go past the queue: a thousand of them would hold up everything.
    """
    try:
        queue.enqueue(lead_id, again=True)
    except queue.QueueUnavailable:
        return False
    return True


@shared_task(name="sweep", ignore_result=True)
def sweep(**_: Any) -> None:
    """Ring for the leads that are due, that nobody works on and that may go out."""
    sweeping.sweep(now=timezone.now(), limits=limits(), window=settings.WORKER_POLL_INTERVAL)


@shared_task(name="process_bulk_actions", ignore_result=True)
def process_bulk_actions(**_: Any) -> None:
    """Carry out what operators have ordered for many leads, BULK_ACTION_RATE leads a second on average."""
    share = settings.BULK_ACTION_RATE * settings.WORKER_POLL_INTERVAL.total_seconds()
    processing.process_pending(now=timezone.now(), max_leads=max(1, int(share)))


@shared_task(name="apply_retention", ignore_result=True)
def apply_retention(**_: Any) -> None:
    """Delete leads whose time has come; so many that the sweep need not wait long for a worker."""
    for _batch in range(_BATCHES_AN_HOUR):
        if not retention.delete_batch(settings.RETENTION_DAYS, now=timezone.now(), actor="retention"):
            return
