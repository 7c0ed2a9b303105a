"""Celery's side: the doorbell's two tasks. They hold no rule and no state; what is due is in the database."""

from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from delivery import sweep as sweeping
from delivery.configuration import current
from delivery.pipeline import LONGEST_COUNTDOWN, advance
from leadgateway import queue, tracing
from leadgateway.logging import get_logger
from leads.models import InboundLead

log = get_logger(__name__)

#: Our own infrastructure, not the customer: tried again with Celery's backoff. When that is lost too, the sweep rings.
_INFRASTRUCTURE_ERRORS = (OperationalError, InterfaceError)


@shared_task(
    name="process_lead",
    autoretry_for=_INFRASTRUCTURE_ERRORS,
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=5,
    ignore_result=True,
)
def process_lead(lead_id: int, **_: Any) -> None:
    """Look at a lead, do what is due, and ring again when the next attempt is."""
    # A doorbell of the sweep has no trace to go on with; one begins, and the correlation id tells where it belongs.
    rung_with = process_lead.request.headers or {}
    with tracing.span("process_lead", "CONSUMER", {tracing.LEAD_ID: lead_id}, within=rung_with):
        _advance(lead_id)


def _advance(lead_id: int) -> None:
    due = advance(lead_id, config=current())
    if due is None:
        return
    wait = due - timezone.now()
    if wait > LONGEST_COUNTDOWN:
        return
    try:
        queue.ring(lead_id, after=wait)
    except queue.QueueUnavailable as error:
        log.warning("doorbell_failed", lead_id=lead_id, reason=str(error))
        InboundLead.objects.filter(pk=lead_id, rung_at=due).update(rung_at=None)


@shared_task(name="sweep", ignore_result=True)
def sweep(**_: Any) -> None:
    """Ring for every lead that is due and that nobody works on."""
    sweeping.sweep(at=timezone.now())
