"""The one place where a lead advances: claim, validate, normalize, map, attempt, settle.

Every step is written down before the next begins, so that a worker may die anywhere: the lease runs out,
the lead is due again, and the trail shows how far it came.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Max
from django.utils import timezone

from delivery import sweep
from delivery.client import CustomerResponse
from delivery.configuration import Configuration
from delivery.control import circuit, permission
from delivery.mapping import MappedLead, map_lead
from delivery.models import DeliveryAttempt
from delivery.retry import ResponseClass, classify_response, next_delay
from leadgateway import tracing
from leadgateway.logging import get_logger
from leads.audit.recording import record
from leads.models import EventKind, InboundLead, LeadStatus
from leads.normalization import normalize
from leads.rules import RejectionReason, rejection_reason
from leads.status import ClaimLost, change_status

log = get_logger(__name__)

WORKER = "worker"

#: A doorbell rings by the clock of one machine and is checked against that of another.
CLOCK_TOLERANCE = timedelta(milliseconds=100)

#: Longer waits are left to the sweep: a countdown lives in a worker's memory.
LONGEST_COUNTDOWN = timedelta(minutes=5)

#: How often the outcome of an exchange is tried to be written while the database is away, until the lease ends.
_SETTLE_PAUSE_S = 0.5

#: What the column of a lead's last answer holds.
_LONGEST_ANSWER = 100

#: A delivery that took longer is logged as slow.
_SLOW_DELIVERY_MS = 5000


@dataclass(frozen=True)
class Claim:
    """The right to work on a lead until `until`."""

    lead: InboundLead
    token: uuid.UUID
    until: datetime


def advance(lead_id: int, *, config: Configuration) -> datetime | None:
    """Do what is due for a lead, if anything is and nobody else does it.

    :returns: when the lead is due again, or None when nothing more will happen by itself.
    :raises django.db.OperationalError: the database went away; the lead is due again when the lease runs out.
    """
    claim = _claim(lead_id, lease=config.lease)
    if claim is None:
        log.debug("nothing_due", lead_id=lead_id)
        return None
    correlation_id = str(claim.lead.correlation_id)
    tracing.note({tracing.CORRELATION_ID: correlation_id})
    with structlog.contextvars.bound_contextvars(lead_id=lead_id, correlation_id=correlation_id):
        try:
            attempt = _prepare(claim, config=config)
            if attempt is None:
                return None
            _await_turn(attempt.requested_at)
            answer = _exchange(claim.lead, attempt, config=config)
            due = _settle_surely(claim, attempt, answer, config=config)
        except ClaimLost:
            log.warning("claim_lost")  # somebody else has taken over; what we found out is not written
            return None
        if config.limits.concurrency:
            sweep.enqueue_next(now=timezone.now())  # its place is free
        return due


def _claim(lead_id: int, *, lease: timedelta) -> Claim | None:
    """Take the lead with one conditional UPDATE; of any number of workers exactly one succeeds."""
    now = timezone.now()
    token, until = uuid.uuid4(), now + lease
    taken = (
        InboundLead.objects.unclaimed(now)
        .filter(pk=lead_id, next_attempt_at__lte=now + CLOCK_TOLERANCE)
        .update(claim_token=token, claimed_until=until, enqueued_at=None)
    )
    return Claim(InboundLead.objects.get(pk=lead_id), token, until) if taken else None


# --- before the request ----------------------------------------------------------------------------------------------


def _prepare(claim: Claim, *, config: Configuration) -> DeliveryAttempt | None:
    """Bring the lead to where a request may leave, and write the attempt; None when it stops before that."""
    with transaction.atomic():
        if claim.lead.status == LeadStatus.RECEIVED and not _qualify(claim, config=config):
            return None
        return _begin_attempt(claim, config=config)


def _qualify(claim: Claim, *, config: Configuration) -> bool:
    """Validate, normalize and map a received lead; tell whether it may go out."""
    lead, now = claim.lead, timezone.now()
    if reason := rejection_reason(lead.raw_payload):
        _stop(claim, LeadStatus.REJECTED, reason=reason)
        return False
    normalized = normalize(lead.raw_payload)
    mapped = map_lead(normalized, mapping=config.mapping, product_name=config.product_name)
    _change(
        claim,
        LeadStatus.READY,
        now=now,
        normalized_payload=normalized,
        customer_payload=mapped.payload,
        mapping_sha256=config.mapping.sha256,
    )
    _record_mapping(lead, mapped, now=now, sha256=config.mapping.sha256)
    if mapped.missing:
        _stop(claim, LeadStatus.FAILED, reason=RejectionReason.MISSING_REQUIRED_FIELD, missing=list(mapped.missing))
        return False
    return True


def _record_mapping(lead: InboundLead, mapped: MappedLead, *, now: datetime, sha256: str) -> None:
    names = [attribute["name"] for attribute in mapped.payload["attributes"]]
    detail = {"mapping": sha256, "attributes": names, "omitted": mapped.omitted}
    record(lead, EventKind.MAPPED, actor=WORKER, now=now, detail=detail)


def _begin_attempt(claim: Claim, *, config: Configuration) -> DeliveryAttempt | None:
    """Write the attempt before the request leaves; None when the lead has to wait, or has no attempt left.

    The latter happens when a worker died in the last one: its outcome is unknown, and stays so.
    """
    lead, now = claim.lead, timezone.now()
    leaves_at = _ask_the_gate(lead, config=config, now=now)
    if leaves_at is None:
        _put_back(claim, now=now)
        return None
    made = DeliveryAttempt.objects.filter(lead=lead).aggregate(last=Max("attempt_no"))["last"] or 0
    if config.policy.exhausted(made - lead.uncounted_attempts):
        _give_up(claim, reason="the outcome of the last attempt is unknown")
        return None
    if not _renew_claim(claim):
        raise ClaimLost(f"lead {lead.pk}")
    attempt = DeliveryAttempt.objects.create(lead=lead, attempt_no=made + 1, requested_at=leaves_at, created_at=now)
    record(lead, EventKind.ATTEMPT_STARTED, actor=WORKER, now=now, detail={"attempt_no": attempt.attempt_no})
    return attempt


def _ask_the_gate(lead: InboundLead, *, config: Configuration, now: datetime) -> datetime | None:
    return permission.send_time(
        lead.pk, circuit=config.circuit, limits=config.limits, timeout=config.customer.timeout, now=now
    )


def _renew_claim(claim: Claim) -> bool:
    return InboundLead.objects.filter(pk=claim.lead.pk, claim_token=claim.token).update(updated_at=timezone.now()) == 1


# --- the request -----------------------------------------------------------------------------------------------------


def _await_turn(leaves_at: datetime) -> None:
    """Wait until the customer's pace lets the request leave, with no connection to the database held meanwhile."""
    connection.close()
    time.sleep(max(0.0, (leaves_at - timezone.now()).total_seconds()))


def _exchange(lead: InboundLead, attempt: DeliveryAttempt, *, config: Configuration) -> CustomerResponse:
    """Send the lead to the customer, in a span of its own, with no transaction open and no connection held."""
    told = {tracing.LEAD_ID: lead.pk, tracing.ATTEMPT_NO: attempt.attempt_no}
    with tracing.span("POST customer", "CLIENT", told | {tracing.CORRELATION_ID: str(lead.correlation_id)}):
        answer = config.customer.deliver(
            lead.customer_payload or {},
            idempotency_key=str(lead.idempotency_key),
            correlation_id=str(lead.correlation_id),
        )
        if answer.status is not None:
            tracing.note({tracing.HTTP_STATUS: answer.status})
        if answer.error:
            tracing.failed(answer.error)
    return answer


# --- after the request -----------------------------------------------------------------------------------------------


def _settle_surely(
    claim: Claim, attempt: DeliveryAttempt, answer: CustomerResponse, *, config: Configuration
) -> datetime | None:
    """Settle, and keep trying while the database is away: an outcome that is lost is a lead that may go out twice."""
    while True:
        try:
            return _settle(claim, attempt, answer, config=config)
        except (OperationalError, InterfaceError) as error:
            if timezone.now() > claim.until:
                raise
            log.warning("outcome_not_written_yet", attempt_no=attempt.attempt_no, exc_info=error)
            connection.close()
            time.sleep(_SETTLE_PAUSE_S)


@dataclass(frozen=True)
class _Decision:
    """What an answer means for the lead."""

    status: LeadStatus
    reason: str | None = None
    delay: timedelta | None = None


def _decide(answer: CustomerResponse, *, failures: int, config: Configuration, now: datetime) -> _Decision:
    """Say what follows from an answer after so many failures that count, this one included if it does."""
    judged = classify_response(answer.status)
    if judged is ResponseClass.DELIVERED:
        return _Decision(LeadStatus.DELIVERED)
    if judged is ResponseClass.PERMANENT:
        return _Decision(LeadStatus.PERMANENTLY_FAILED, reason=f"the customer refused it: {answer.error}")
    if config.policy.exhausted(failures):
        return _Decision(
            LeadStatus.PERMANENTLY_FAILED, reason=f"attempt {failures} of {failures} failed: {answer.error}"
        )
    return _Decision(LeadStatus.FAILED, delay=next_delay(config.policy, max(failures, 1), answer.retry_after, now))


def _settle(
    claim: Claim, attempt: DeliveryAttempt, answer: CustomerResponse, *, config: Configuration
) -> datetime | None:
    """Write the outcome, the status it leads to and the events, in one transaction; fenced by the claim."""
    now = timezone.now()
    with transaction.atomic():
        if not _complete(attempt, answer, now=now):
            return None  # a COMMIT of ours whose answer was lost went through after all
        customer_is_down = circuit.take_in(claim.lead.pk, answer, policy=config.circuit, now=now)
        forgiven = claim.lead.uncounted_attempts + customer_is_down
        decision = _decide(answer, failures=attempt.attempt_no - forgiven, config=config, now=now)
        InboundLead.objects.select_for_update(no_key=True).filter(pk=claim.lead.pk).values_list("pk").first()
        _record_outcome(claim.lead, attempt, answer, now=now, delay=decision.delay)
        last_answer = _in_short(answer)
        if decision.delay is not None:
            _wait(claim, decision.delay, now=now, last_answer=last_answer, uncounted_attempts=forgiven)
        elif decision.status == LeadStatus.DELIVERED:
            _change(
                claim,
                LeadStatus.DELIVERED,
                now=now,
                delivered_at=now,
                last_answer=last_answer,
                rejection_reason=None,
                next_attempt_at=None,
                **_RELEASED,
            )
        else:
            _give_up(claim, reason=str(decision.reason), now=now, last_answer=last_answer)
    _log_outcome(claim.lead, attempt, answer, decision.delay)
    return None if decision.delay is None else now + decision.delay


def _in_short(answer: CustomerResponse) -> str:
    """Return what staff filter and group leads by: the HTTP status, or what came instead of one."""
    return str(answer.status) if answer.status is not None else (answer.error or "")[:_LONGEST_ANSWER]


def _complete(attempt: DeliveryAttempt, answer: CustomerResponse, *, now: datetime) -> bool:
    return (
        DeliveryAttempt.objects.filter(pk=attempt.pk, finished_at=None).update(
            response_status=answer.status,
            response_body=answer.body or None,
            error_message=answer.error,
            success=classify_response(answer.status) is ResponseClass.DELIVERED,
            finished_at=now,
            duration_ms=answer.duration_ms,
        )
        == 1
    )


def _record_outcome(
    lead: InboundLead, attempt: DeliveryAttempt, answer: CustomerResponse, *, now: datetime, delay: timedelta | None
) -> None:
    detail = {
        "attempt_no": attempt.attempt_no,
        "response_status": answer.status,
        "error": answer.error,
        "duration_ms": answer.duration_ms,
        "next_attempt_in_s": None if delay is None else delay.total_seconds(),
    }
    record(lead, EventKind.ATTEMPT_FINISHED, actor=WORKER, now=now, detail=detail)


def _log_outcome(
    lead: InboundLead, attempt: DeliveryAttempt, answer: CustomerResponse, delay: timedelta | None
) -> None:
    slow = answer.duration_ms > _SLOW_DELIVERY_MS
    write = log.warning if slow or answer.error else log.info
    write(
        "slow_delivery" if slow else "delivery_attempted",
        attempt_no=attempt.attempt_no,
        status=lead.status,
        response_status=answer.status,
        error=answer.error,
        duration_ms=answer.duration_ms,
        next_attempt_in_s=None if delay is None else delay.total_seconds(),
    )


# --- the ways a claim ends -------------------------------------------------------------------------------------------


def _change(
    claim: Claim, to: LeadStatus, *, now: datetime, detail: dict[str, Any] | None = None, **columns: Any
) -> None:
    change_status(claim.lead, to, actor=WORKER, now=now, claim=claim.token, detail=detail, **columns)


_RELEASED: dict[str, Any] = {"claimed_until": None, "claim_token": None}


def _stop(claim: Claim, to: LeadStatus, *, reason: str, **detail: Any) -> None:
    """End the claim and the way of a lead that is not to be delivered: nothing more happens by itself."""
    told = {"reason": reason, **detail}
    _change(claim, to, now=timezone.now(), detail=told, rejection_reason=reason, next_attempt_at=None, **_RELEASED)
    log.info("lead_stopped", status=to, reason=reason)


def _give_up(claim: Claim, *, reason: str, now: datetime | None = None, **columns: Any) -> None:
    """End the lead's way without delivery; support and operators find it under "permanently failed"."""
    _change(
        claim,
        LeadStatus.PERMANENTLY_FAILED,
        now=now or timezone.now(),
        detail={"reason": reason},
        next_attempt_at=None,
        **columns,
        **_RELEASED,
    )
    log.error("lead_permanently_failed", reason=reason)


def _put_back(claim: Claim, *, now: datetime) -> None:
    """End the claim of a lead that may not leave yet. It stays due and unrung; the sweep rings when it may."""
    released = InboundLead.objects.filter(pk=claim.lead.pk, claim_token=claim.token)
    released.update(updated_at=now, **_RELEASED)
    log.debug("lead_waits_for_delivery")


def _wait(claim: Claim, delay: timedelta, *, now: datetime, **columns: Any) -> None:
    """End the claim and set the next attempt; a short wait counts as rung for, since the caller rings then."""
    due = now + delay
    enqueued_at = due if delay <= LONGEST_COUNTDOWN else None
    _change(
        claim,
        LeadStatus.FAILED,
        now=now,
        next_attempt_at=due,
        enqueued_at=enqueued_at,
        **columns,
        **_RELEASED,
    )
