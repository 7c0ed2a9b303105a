"""Deliver one lead: claim it, prepare the request, send it, settle the result.

Each step is committed before the next one begins, so a worker can stop at any point: its lease expires, the lead is due
again, and the audit log shows how far the worker came.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from delivery import sweep
from delivery.claims import RELEASED, Claim, claim_lead, update_claimed
from delivery.client import CustomerResponse
from delivery.configuration import Configuration
from delivery.control import circuit, permission
from delivery.control.limits import NO_LIMITS
from delivery.mapping import map_lead
from delivery.models import RESTRICTIONS_EXIST, DeliveryAttempt
from delivery.retry import GiveUp, after_failure
from leadgateway import tracing
from leadgateway.logging import get_logger
from leads.audit.recording import build_event, record_all
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize
from leads.rules import RejectionReason, rejection_reason
from leads.status import ClaimLost, change_status

log = get_logger(__name__)

WORKER = "worker"

#: Longer waits are left to the sweep, because a message with a countdown stays in a worker's memory.
LONGEST_COUNTDOWN = timedelta(minutes=5)

#: Pause between two tries to store a result while the database is unavailable.
SETTLE_RETRY_PAUSE = timedelta(milliseconds=500)

#: A request that took longer is logged as slow.
_SLOW_DELIVERY_MS = 5000

_COMPLETE_ATTEMPT = f"""
    UPDATE delivery_attempt SET response_status = %s, response_body = %s, error_message = %s, error = %s,
        success = %s, finished_at = %s, duration_ms = %s
    WHERE id = %s AND finished_at IS NULL
    RETURNING {RESTRICTIONS_EXIST}
"""  # noqa: S608 (constant SQL)


def advance(lead_id: int, *, config: Configuration) -> datetime | None:
    """Deliver a lead that is due and that no other worker has claimed.

    :returns: when the lead is due again; None: nothing more happens automatically, or another worker has it.
    :raises django.db.OperationalError: the database is unavailable. The lead is due again when the lease expires.
    """
    claim = claim_lead(lead_id, request_timeout=config.customer.timeout)
    if claim is None:
        log.debug("lead_not_due", lead_id=lead_id)
        return None
    correlation_id = str(claim.lead.correlation_id)
    tracing.note({tracing.CORRELATION_ID: correlation_id})
    with structlog.contextvars.bound_contextvars(lead_id=lead_id, correlation_id=correlation_id):
        try:
            attempt = prepare(claim, config=config)
            if attempt is None:
                return None
            response = send(claim.lead, attempt, config=config)
            due = settle(claim, attempt, response, config=config)
        except ClaimLost:
            log.warning("claim_lost")
            return None
        if config.limits.concurrency:
            sweep.enqueue_next(now=timezone.now())
        return due


# --- prepare ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mapped:
    """What is stored when a lead becomes READY."""

    columns: dict[str, Any]
    event: LeadEvent


def prepare(claim: Claim, *, config: Configuration) -> DeliveryAttempt | None:
    """Check and map a received lead, and store the attempt before its request is sent.

    :returns: None when no request may be sent now.
    :raises ClaimLost: another worker has claimed the lead.
    """
    lead, now = claim.lead, timezone.now()
    if lead.status != LeadStatus.RECEIVED:
        return _start_attempt(claim, None, config=config, now=now)
    if reason := rejection_reason(lead.raw_payload):
        _stop(claim, LeadStatus.REJECTED, now=now, detail={"reason": reason}, rejection_reason=reason)
        log.info("lead_stopped", status=LeadStatus.REJECTED, reason=reason)
        return None
    normalized = normalize(lead.raw_payload)
    result = map_lead(normalized, mapping=config.mapping, product_name=config.product_name)
    columns = {
        "normalized_payload": normalized,
        "customer_payload": result.payload,
        "mapping_sha256": config.mapping.sha256,
    }
    names = list(map(itemgetter("name"), result.payload["attributes"]))
    detail = {"mapping": config.mapping.sha256, "attributes": names, "omitted": result.omitted}
    mapped = _Mapped(columns, build_event(lead, EventKind.MAPPED, actor=WORKER, now=now, detail=detail))
    if not result.missing:
        return _start_attempt(claim, mapped, config=config, now=now)
    reason = RejectionReason.MISSING_REQUIRED_FIELD
    detail = {"reason": reason, "missing": list(result.missing)}
    with transaction.atomic():
        _confirm_claim(claim, mapped, now=now)
        _stop(claim, LeadStatus.FAILED, now=now, detail=detail, rejection_reason=reason)
    log.info("lead_stopped", status=LeadStatus.FAILED, reason=reason)
    return None


def _start_attempt(
    claim: Claim, mapped: _Mapped | None, *, config: Configuration, now: datetime
) -> DeliveryAttempt | None:
    """Store the next attempt, unless delivery control makes the lead wait or no attempt is left.

    :param mapped: of a lead that becomes READY in the same transaction.
    """
    lead, attempt_no, send_at = claim.lead, claim.attempts_made + 1, now
    with transaction.atomic():
        # A transaction that needs both locks the delivery control row before the lead's row.
        if claim.restrictions_exist or config.limits != NO_LIMITS:
            allowed_at = permission.send_time(
                lead.pk, circuit=config.circuit, limits=config.limits, timeout=config.customer.timeout, now=now
            )
            if allowed_at is None:
                # The lead stays due, and the sweep enqueues it when it may be sent.
                _confirm_claim(claim, mapped, now=now, **RELEASED)
                log.debug("lead_waits_for_delivery_control")
                return None
            send_at = allowed_at
        if mapped is None and config.policy.exhausted(claim.attempts_made - lead.uncounted_attempts):
            # A worker stopped during the last attempt.
            _stop(claim, LeadStatus.PERMANENTLY_FAILED, now=now, detail={"reason": {"code": "outcome_unknown"}})
            log.error("lead_permanently_failed", reason="outcome_unknown")
            return None
        started = build_event(lead, EventKind.ATTEMPT_STARTED, actor=WORKER, now=now, detail={"attempt_no": attempt_no})
        _confirm_claim(claim, mapped, now=now, events=[started])
        return DeliveryAttempt.objects.create(lead=lead, attempt_no=attempt_no, requested_at=send_at, created_at=now)


def _confirm_claim(
    claim: Claim, mapped: _Mapped | None, *, now: datetime, events: Sequence[LeadEvent] = (), **columns: Any
) -> None:
    """Lock the claimed lead, set `columns`, and record `events`. A lead that has just been mapped becomes READY.

    :raises ClaimLost: another worker has claimed the lead.
    """
    if mapped is None:
        update_claimed(claim, now=now, **columns)
        record_all(events)
    else:
        events = [mapped.event, *events]
        changes = mapped.columns | columns
        change_status(
            claim.lead, LeadStatus.READY, actor=WORKER, now=now, claim=claim.token, events_after=events, **changes
        )


def _stop(claim: Claim, to: LeadStatus, *, now: datetime, **changes: Any) -> None:
    """Release a lead that is not sent and not processed again automatically.

    :param changes: further arguments of `change_status`.
    """
    change_status(claim.lead, to, actor=WORKER, now=now, claim=claim.token, next_attempt_at=None, **changes, **RELEASED)


# --- send ------------------------------------------------------------------------------------------------------------


def send(lead: InboundLead, attempt: DeliveryAttempt, *, config: Configuration) -> CustomerResponse:
    """Send the lead to the customer at the attempt's time, without a database connection or transaction."""
    connection.close()
    time.sleep(max(0.0, (attempt.requested_at - timezone.now()).total_seconds()))
    correlation_id = str(lead.correlation_id)
    attributes: dict[str, str | int] = {
        tracing.LEAD_ID: lead.pk,
        tracing.ATTEMPT_NO: attempt.attempt_no,
        tracing.CORRELATION_ID: correlation_id,
    }
    with tracing.span("POST customer", "CLIENT", attributes) as trace_headers:
        response = config.customer.deliver(
            lead.customer_payload or {},
            idempotency_key=str(lead.idempotency_key),
            correlation_id=correlation_id,
            trace_headers=trace_headers,
        )
        tracing.note(
            {} if response.status is None else {tracing.HTTP_STATUS: response.status},
            error=response.error.message if response.error else None,
        )
    return response


# --- settle ----------------------------------------------------------------------------------------------------------


def settle(
    claim: Claim, attempt: DeliveryAttempt, response: CustomerResponse, *, config: Configuration
) -> datetime | None:
    """Store the result of a request, and retry while the database is unavailable.

    A result that is not stored can lead to a second delivery, so the retries end only with the lease.

    :returns: when the lead is due again; None: never automatically.
    :raises ClaimLost: another worker has claimed the lead; nothing is stored.
    """
    while True:
        try:
            return _store_result(claim, attempt, response, config=config)
        except (OperationalError, InterfaceError) as error:
            if timezone.now() > claim.until:
                raise
            log.warning("result_not_stored_yet", attempt_no=attempt.attempt_no, exc_info=error)
            connection.close()
            time.sleep(SETTLE_RETRY_PAUSE.total_seconds())


def _store_result(
    claim: Claim, attempt: DeliveryAttempt, response: CustomerResponse, *, config: Configuration
) -> datetime | None:
    """Complete the attempt, change the lead's status and record the events, all in one transaction."""
    lead, now = claim.lead, timezone.now()
    next_step: timedelta | GiveUp | None = None  # None: the lead is delivered
    uncounted = lead.uncounted_attempts
    with transaction.atomic():
        restrictions_exist = _complete_attempt(attempt, response, now=now)
        if restrictions_exist is None:
            return None  # an earlier try was committed, but its confirmation was lost
        # A transaction that needs both locks the delivery control row before the lead's row.
        if response.error:
            uncounted += circuit.record_failure(lead.pk, response, policy=config.circuit, now=now)
            next_step = after_failure(
                config.policy, response.status, attempt.attempt_no - uncounted, response.retry_after, now=now
            )
        elif restrictions_exist:
            circuit.record_success(now=now)
        _change_lead(claim, attempt, response, next_step, uncounted=uncounted, now=now)
    slow = response.duration_ms > _SLOW_DELIVERY_MS
    write = log.warning if slow or response.error else log.info
    write(
        "slow_delivery" if slow else "delivery_attempted",
        attempt_no=attempt.attempt_no,
        status=lead.status,
        response_status=response.status,
        error=response.error.message if response.error else None,
        duration_ms=response.duration_ms,
        next_attempt_in_s=next_step.total_seconds() if isinstance(next_step, timedelta) else None,
    )
    return lead.next_attempt_at


def _complete_attempt(attempt: DeliveryAttempt, response: CustomerResponse, *, now: datetime) -> bool | None:
    """Store the response in the attempt's row.

    :returns: whether delivery control has restrictions; None: the attempt was complete already.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _COMPLETE_ATTEMPT,
            [
                response.status,
                response.body or None,
                response.error.message if response.error else None,
                json.dumps(response.error.as_json()) if response.error else None,
                response.error is None,
                connection.ops.adapt_datetimefield_value(now),
                response.duration_ms,
                attempt.pk,
            ],
        )
        row = cursor.fetchone()
    return None if row is None else bool(row[0])


def _change_lead(
    claim: Claim,
    attempt: DeliveryAttempt,
    response: CustomerResponse,
    next_step: timedelta | GiveUp | None,
    *,
    uncounted: int,
    now: datetime,
) -> None:
    """Record the end of the attempt, and change the lead: delivered, waiting for the next attempt, or given up."""
    delay = next_step if isinstance(next_step, timedelta) else None
    error = response.error.as_json() if response.error else None
    detail = {
        "attempt_no": attempt.attempt_no,
        "response_status": response.status,
        "error": error,
        "duration_ms": response.duration_ms,
        "next_attempt_in_s": None if delay is None else delay.total_seconds(),
    }
    finished = build_event(claim.lead, EventKind.ATTEMPT_FINISHED, actor=WORKER, now=now, detail=detail)
    changes: dict[str, Any]
    if next_step is None:
        to, changes = LeadStatus.DELIVERED, {"delivered_at": now, "rejection_reason": None, "next_attempt_at": None}
    elif isinstance(next_step, GiveUp):
        reason: dict[str, Any] = {"code": next_step, "error": error}
        if next_step is GiveUp.EXHAUSTED:
            reason["attempts"] = attempt.attempt_no - uncounted
        to, changes = LeadStatus.PERMANENTLY_FAILED, {"detail": {"reason": reason}, "next_attempt_at": None}
        log.error("lead_permanently_failed", reason=next_step)
    else:
        due = now + next_step
        # The caller enqueues the message for a short wait.
        enqueued_at = due if next_step <= LONGEST_COUNTDOWN else None
        to = LeadStatus.FAILED
        changes = {"uncounted_attempts": uncounted, "next_attempt_at": due, "enqueued_at": enqueued_at}
    changes |= {"last_answer": response.last_answer, **RELEASED}
    change_status(claim.lead, to, actor=WORKER, now=now, claim=claim.token, events_before=[finished], **changes)
