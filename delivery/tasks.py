"""The Celery tasks of delivery. They hold no rules and no state: the database says what is due."""

import time
from collections.abc import Sequence
from datetime import timedelta
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

#: Errors of our own infrastructure. Celery retries with backoff; if that fails too, the sweep enqueues the lead.
_INFRASTRUCTURE_ERRORS = (OperationalError, InterfaceError)

#: How long an hourly run of retention may take. It deletes about a thousand leads a second.
LONGEST_RETENTION = timedelta(minutes=10)


@shared_task(
    name="process_lead",
    bind=True,
    autoretry_for=_INFRASTRUCTURE_ERRORS,
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=5,
    ignore_result=True,
)
def process_lead(self: Task, lead_ids: Sequence[int], **_: Any) -> None:
    """Deliver the leads that are due, and enqueue messages for their next attempts."""
    message = self.request
    for lead_id in lead_ids:
        # A message of the sweep has no trace to continue. The correlation id connects the lead's traces.
        with tracing.span("process_lead", "CONSUMER", {tracing.LEAD_ID: lead_id}, within=message.headers or {}):
            if not (message.eta and not message.retries and _requeue_after_countdown(lead_id)):
                _process(lead_id)


def _process(lead_id: int) -> None:
    due = advance(lead_id, config=current())
    if due is None or (wait := due - timezone.now()) > LONGEST_COUNTDOWN:
        return
    try:
        queue.enqueue([lead_id], delay=wait, is_retry=True)
    except queue.QueueUnavailable as error:
        log.warning("enqueue_failed", lead_id=lead_id, reason=str(error))
        InboundLead.objects.filter(pk=lead_id, enqueued_at=due).update(enqueued_at=None)


def _requeue_after_countdown(lead_id: int) -> bool:
    """Put a message whose countdown has ended into the retry queue, and return whether that worked.

    A worker keeps its countdowns in memory and runs them before the queue: a thousand of them would delay all new
    leads. From the queue all workers share them.
    """
    try:
        queue.enqueue([lead_id], is_retry=True)
    except queue.QueueUnavailable:
        return False
    return True


@shared_task(name="sweep", ignore_result=True)
def sweep(**_: Any) -> None:
    """Enqueue the leads that are due, not claimed and allowed by delivery control."""
    sweeping.sweep(now=timezone.now(), limits=limits(), window=settings.WORKER_POLL_INTERVAL)


@shared_task(name="process_bulk_actions", ignore_result=True)
def process_bulk_actions(**_: Any) -> None:
    """Process open bulk actions, BULK_ACTION_RATE leads per second on average."""
    share = settings.BULK_ACTION_RATE * settings.WORKER_POLL_INTERVAL.total_seconds()
    processing.process_pending(now=timezone.now(), max_leads=max(1, int(share)))


@shared_task(name="apply_retention", ignore_result=True)
def apply_retention(**_: Any) -> None:
    """Delete leads older than RETENTION_DAYS, in batches of one transaction each."""
    ends_at = time.monotonic() + LONGEST_RETENTION.total_seconds()
    while retention.delete_batch(settings.RETENTION_DAYS, now=timezone.now(), actor="retention"):
        if time.monotonic() > ends_at:
            return
