"""The Celery tasks of delivery. They hold no rules and no state: the database says what is due."""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from celery import Task, shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from delivery import sweep as sweeping
from delivery.bulk_actions import processing
from delivery.configuration import current, limits
from delivery.privacy import retention
from delivery.window import Job, Window
from leadgateway import queue, tracing
from leadgateway.logging import get_logger
from leads.models import InboundLead

log = get_logger(__name__)

#: Errors of our own infrastructure. Celery retries with backoff; if that fails too, the sweep enqueues the lead.
_INFRASTRUCTURE_ERRORS = (OperationalError, InterfaceError)

#: How long an hourly run of retention may take. It deletes about a thousand leads a second.
LONGEST_RETENTION = timedelta(minutes=10)


@cache
def window() -> Window:
    """Return the window of this worker process."""
    return Window(settings.WORKER_CONCURRENCY, config=current())


@worker_shutting_down.connect
def _stop_window(**_: object) -> None:
    window().stop()


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
    headers = message.headers or {}
    if message.eta and not message.retries:
        with tracing.span("process_lead", "CONSUMER", {tracing.LEAD_ID: lead_ids[0]}, within=headers):
            if _requeue_after_countdown(lead_ids):
                return
    error: Exception | None = None
    for jobs in window().deliver(lead_ids, headers=headers):
        if again := [job for job in jobs if job.due or job.is_returned]:
            _enqueue_again(again)
        error = error or next((job.error for job in jobs if job.error), None)
    if error:
        raise error


def _enqueue_again(jobs: Sequence[Job]) -> None:
    """Enqueue messages for next attempts, and for leads that a stopping worker has not claimed."""
    groups: dict[tuple[datetime | None, tracing.Trace | None], list[int]] = defaultdict(list)
    for job in jobs:
        groups[job.due, job.trace].append(job.lead_id)  # a message continues one trace
    for (due, trace), lead_ids in groups.items():
        delay = max(due - timezone.now(), timedelta()) if due else timedelta()
        try:
            with tracing.current(trace):
                queue.enqueue(lead_ids, delay=delay, is_retry=True)
        except queue.QueueUnavailable as error:
            log.warning("enqueue_failed", leads=len(lead_ids), reason=str(error))
            # The sweep enqueues them.
            unclaimed = InboundLead.objects.filter(pk__in=lead_ids, claim_token=None)
            (unclaimed.filter(enqueued_at=due) if due else unclaimed).update(enqueued_at=None)


def _requeue_after_countdown(lead_ids: Sequence[int]) -> bool:
    """Put a message whose countdown has ended into the retry queue, and return whether that worked.

    A worker keeps its countdowns in memory and runs them before the queue: a thousand of them would delay all new
    leads. From the queue all workers share them.
    """
    try:
        queue.enqueue(lead_ids, is_retry=True)
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
