"""Deliver leads: claim them, prepare their requests, send them, settle the results.

Each step is committed before the next one begins, so a worker can stop at any point: its lease expires, the lead is due
again, and the audit log shows how far the worker came.

All steps but `send` take several leads and share their statements and their transaction. `delivery.window` runs them.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from delivery import sweep
from delivery.client import CustomerResponse
from delivery.configuration import Configuration
from delivery.control import circuit, permission
from delivery.control.limits import NO_LIMITS
from delivery.mapping import map_lead
from delivery.models import RESTRICTIONS_EXIST, DeliveryAttempt
from delivery.retry import GiveUp, after_failure
from leadgateway import tracing
from leadgateway.db.rows import as_table, columns_of
from leadgateway.logging import get_logger
from leads.audit.recording import build_event
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize
from leads.rules import RejectionReason, rejection_reason
from leads.status import ClaimLost, LeadChange, change_leads

T = TypeVar("T")
R = TypeVar("R")

log = get_logger(__name__)

WORKER = "worker"

#: How much longer than a request the lease lasts: time to write the result, and to give up on a slow name lookup.
LEASE_MARGIN = timedelta(seconds=15)

#: A message can arrive early by the difference between two machines' clocks.
CLOCK_TOLERANCE = timedelta(milliseconds=100)

#: Longer waits are left to the sweep, because a message with a countdown stays in a worker's memory.
LONGEST_COUNTDOWN = timedelta(minutes=5)

#: Pause between two tries to store results while the database is unavailable.
SETTLE_RETRY_PAUSE = timedelta(milliseconds=500)

#: A request that took longer is logged as slow.
_SLOW_DELIVERY_MS = 5000

#: The columns of a lead that no worker has claimed.
_RELEASED: dict[str, Any] = {"claimed_until": None, "claim_token": None}


@dataclass(frozen=True)
class Claim:
    """The right to work on a lead until `until`, and what was known when the lead was claimed."""

    lead: InboundLead
    token: uuid.UUID
    until: datetime
    attempts_made: int
    #: Whether delivery control may forbid or delay the request; see `RESTRICTIONS_EXIST`.
    restrictions_exist: bool

    @property
    def ids(self) -> dict[str, Any]:
        """The ids for log lines."""
        return {"lead_id": self.lead.pk, "correlation_id": str(self.lead.correlation_id)}


@dataclass(frozen=True)
class Delivery:
    """A request that may be sent: its attempt is stored."""

    claim: Claim
    attempt: DeliveryAttempt


@dataclass(frozen=True)
class Result:
    """What came back for a delivery."""

    delivery: Delivery
    response: CustomerResponse


# --- claim -----------------------------------------------------------------------------------------------------------

# The conditions are those of LeadQuerySet.due(). Of any number of workers exactly one gets a row. If a worker beyond
# its lease stores an attempt at the same moment, the unique attempt number refuses the second one.
_CLAIM = f"""
    UPDATE inbound_lead SET claim_token = %s, claimed_until = %s, enqueued_at = NULL
    WHERE id IN (%s) AND status IN ('RECEIVED', 'READY', 'FAILED') AND next_attempt_at <= %s
        AND (claimed_until IS NULL OR claimed_until < %s)
    RETURNING *,
        (SELECT coalesce(max(attempt_no), 0) FROM delivery_attempt WHERE lead_id = inbound_lead.id) AS attempts_made,
        {RESTRICTIONS_EXIST} AS restrictions_exist
"""  # noqa: S608 (constant SQL)


def claim(lead_ids: Sequence[int], *, request_timeout: timedelta) -> list[Claim]:
    """Claim those of the leads that are due and that no other worker has, with one UPDATE.

    The claim is a lease in the lead's row (`claimed_until`) and a token (`claim_token`). The lease lasts as long as a
    request can, plus a margin. While it runs, no other worker can claim the lead. Every write of a worker requires its
    token, so a worker that lost the claim changes nothing.

    :returns: claims in the order of the leads' ids.
    """
    now, token = timezone.now(), uuid.uuid4()
    until = now + request_timeout + LEASE_MARGIN
    stored_token = InboundLead._meta.get_field("claim_token").get_db_prep_value(token, connection)
    statement = _CLAIM.replace("(%s)", f"({', '.join(['%s'] * len(lead_ids))})", 1)
    # Typed as Any for the two columns that the statement adds.
    leads: list[Any] = list(
        InboundLead.objects.raw(statement, [stored_token, until, *lead_ids, now + CLOCK_TOLERANCE, now])
    )
    leads.sort(key=attrgetter("pk"))
    return [Claim(lead, token, until, lead.attempts_made, bool(lead.restrictions_exist)) for lead in leads]


# --- prepare ---------------------------------------------------------------------------------------------------------


def prepare(claims: Sequence[Claim], *, config: Configuration) -> list[Delivery]:
    """Check and map received leads, and store the attempts before their requests are sent.

    Leads that may not be sent now are released or closed and do not have a delivery. Nor does a lead whose claim is
    lost, or that cannot be processed: it is due again when its lease expires.

    :raises django.db.OperationalError: the database is unavailable. The leads are due when their leases expire.
    """
    return _for_all(lambda some: _prepare(some, config=config), claims, get_claim=lambda claim: claim)


def _for_all(step: Callable[[Sequence[T]], list[R]], items: Sequence[T], *, get_claim: Callable[[T], Claim]) -> list[R]:
    """Run a step for all items together. If that fails because of one item, run it for each item by itself."""
    try:
        return step(items)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        if len(items) > 1:
            return [result for item in items for result in _for_all(step, [item], get_claim=get_claim)]
        if isinstance(error, ClaimLost):
            log.warning("claim_lost", **get_claim(items[0]).ids)
        else:
            log.error("lead_not_processed", **get_claim(items[0]).ids, exc_info=error)
        return []


def _prepare(claims: Sequence[Claim], *, config: Configuration) -> list[Delivery]:
    now = timezone.now()
    checked = [_check(claim, config=config, now=now) for claim in claims]
    with transaction.atomic():
        # A transaction that needs both locks the delivery control row before the leads' rows.
        send_times = _send_times([one for one in checked if one.stop is None], config=config, now=now)
        for one in checked:
            if one.stop is None:
                _start_attempt(one, send_times.get(one.claim.lead.pk), config=config, now=now)
        change_leads([one.change for one in checked if one.change], actor=WORKER, now=now)
        change_leads([one.stop for one in checked if one.stop], actor=WORKER, now=now)
        _store_attempts([one.attempt for one in checked if one.attempt])
    for one in checked:
        if one.stop:
            detail = one.stop.detail or {}
            log.info("lead_stopped", **one.claim.ids, status=one.stop.to, reason=detail["reason"])
        elif not one.attempt:
            log.debug("lead_waits_for_delivery_control", **one.claim.ids)
    sent = [one for one in checked if one.attempt]
    for one in sent:
        if one.change:
            one.change.update_object(now=now)
    return [Delivery(one.claim, one.attempt) for one in sent if one.attempt]


@dataclass
class _Checked:
    """What is stored for a lead before its request."""

    claim: Claim
    #: The columns and the event of a received lead that becomes READY.
    mapped: dict[str, Any] | None = None
    mapped_event: LeadEvent | None = None
    change: LeadChange | None = None
    #: The change of a lead that is not sent and not processed again automatically.
    stop: LeadChange | None = None
    attempt: DeliveryAttempt | None = None

    def confirm_claim(self, events: Sequence[LeadEvent] = (), **columns: Any) -> None:
        """Change the lead only if the claim is still valid. A lead that has just been mapped becomes READY."""
        to = None if self.mapped is None else LeadStatus.READY
        events = [self.mapped_event, *events] if self.mapped_event else events
        columns = (self.mapped or {}) | columns
        self.change = LeadChange(self.claim.lead, to, claim=self.claim.token, events_after=events, columns=columns)

    def close(self, to: LeadStatus, detail: dict[str, Any], *, old: str = "", **columns: Any) -> None:
        """Release the lead for good."""
        columns |= {"next_attempt_at": None, **_RELEASED}
        self.stop = LeadChange(self.claim.lead, to, claim=self.claim.token, detail=detail, columns=columns, old=old)


def _check(claim: Claim, *, config: Configuration, now: datetime) -> _Checked:
    """Check and map a received lead; decide whether another lead has an attempt left."""
    lead, checked = claim.lead, _Checked(claim)
    if lead.status != LeadStatus.RECEIVED:
        return checked
    if reason := rejection_reason(lead.raw_payload):
        checked.close(LeadStatus.REJECTED, {"reason": reason}, rejection_reason=reason)
        return checked
    normalized = normalize(lead.raw_payload)
    result = map_lead(normalized, mapping=config.mapping, product_name=config.product_name)
    checked.mapped = {
        "normalized_payload": normalized,
        "customer_payload": result.payload,
        "mapping_sha256": config.mapping.sha256,
    }
    names = list(map(itemgetter("name"), result.payload["attributes"]))
    detail = {"mapping": config.mapping.sha256, "attributes": names, "omitted": result.omitted}
    checked.mapped_event = build_event(lead, EventKind.MAPPED, actor=WORKER, now=now, detail=detail)
    if result.missing:
        reason = RejectionReason.MISSING_REQUIRED_FIELD
        checked.confirm_claim()
        detail = {"reason": reason, "missing": list(result.missing)}
        checked.close(LeadStatus.FAILED, detail, old=LeadStatus.READY, rejection_reason=reason)
    return checked


def _send_times(checked: Sequence[_Checked], *, config: Configuration, now: datetime) -> dict[int, datetime]:
    """Return when each lead may be sent. The other leads have to wait for delivery control."""
    leads = [one.claim.lead.pk for one in checked]
    if config.limits == NO_LIMITS and not any(one.claim.restrictions_exist for one in checked):
        return dict.fromkeys(leads, now)
    return permission.send_times(
        leads, circuit=config.circuit, limits=config.limits, timeout=config.customer.timeout, now=now
    )


def _start_attempt(checked: _Checked, send_at: datetime | None, *, config: Configuration, now: datetime) -> None:
    """Add the next attempt, unless the lead has to wait or no attempt is left."""
    claim, lead = checked.claim, checked.claim.lead
    if send_at is None:
        # The lead stays due, and the sweep enqueues it when it may be sent.
        checked.confirm_claim(**_RELEASED)
    elif checked.mapped is None and config.policy.exhausted(claim.attempts_made - lead.uncounted_attempts):
        # A worker stopped during the last attempt.
        checked.close(LeadStatus.PERMANENTLY_FAILED, {"reason": {"code": "outcome_unknown"}})
    else:
        number = claim.attempts_made + 1
        detail = {"attempt_no": number}
        started = build_event(lead, EventKind.ATTEMPT_STARTED, actor=WORKER, now=now, detail=detail)
        checked.confirm_claim([started])
        checked.attempt = DeliveryAttempt(lead=lead, attempt_no=number, requested_at=send_at, created_at=now)


_ATTEMPT = columns_of(DeliveryAttempt, "lead_id", "attempt_no", "requested_at", "created_at")


def _store_attempts(attempts: Sequence[DeliveryAttempt]) -> None:
    """Store new attempts and set their ids."""
    if not attempts:
        return
    rows = [(one.lead_id, one.attempt_no, one.requested_at, one.created_at) for one in attempts]
    new, parameters = as_table(_ATTEMPT, rows)
    names = ", ".join(_ATTEMPT)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO delivery_attempt ({names}) SELECT {names} FROM {new} RETURNING lead_id, id",  # noqa: S608
            parameters,
        )
        ids = dict(cursor.fetchall())
    for attempt in attempts:
        attempt.pk = ids[attempt.lead_id]


# --- send ------------------------------------------------------------------------------------------------------------


def send(delivery: Delivery, *, config: Configuration, trace: tracing.Headers | None = None) -> Result:
    """Send a lead to the customer at the attempt's time. Uses no database connection.

    :param trace: headers of the span that the request belongs to.
    """
    lead, attempt = delivery.claim.lead, delivery.attempt
    if (wait_s := (attempt.requested_at - timezone.now()).total_seconds()) > 0:
        time.sleep(wait_s)
    correlation_id = str(lead.correlation_id)
    deliver = partial(
        config.customer.deliver,
        lead.customer_payload or {},
        idempotency_key=str(lead.idempotency_key),
        correlation_id=correlation_id,
    )
    if trace is None:
        return Result(delivery, deliver())
    attributes: tracing.Attributes = {
        tracing.LEAD_ID: lead.pk,
        tracing.ATTEMPT_NO: attempt.attempt_no,
        tracing.CORRELATION_ID: correlation_id,
    }
    with tracing.span("POST customer", "CLIENT", attributes, within=trace) as headers:
        response = deliver(trace_headers=headers)
        tracing.note(
            {} if response.status is None else {tracing.HTTP_STATUS: response.status},
            error=response.error.message if response.error else None,
        )
    return Result(delivery, response)


# --- settle ----------------------------------------------------------------------------------------------------------


def settle(results: Sequence[Result], *, config: Configuration) -> dict[int, datetime]:
    """Store the results of requests, and retry while the database is unavailable.

    A result that is not stored can lead to a second delivery, so the retries end only with the lease. A result whose
    claim is lost is not stored.

    :param results: in the order in which they arrived.
    :returns: when leads are due again, if that is so soon that a message with a countdown can be sent.
    :raises django.db.OperationalError: the database was unavailable until the leases ended.
    """
    due = _settle_patiently(results, config=config)
    if config.limits.concurrency:
        with suppress(OperationalError, InterfaceError):  # the sweep enqueues them
            sweep.enqueue_next(now=timezone.now(), most=len(results))
    return due


def _settle_patiently(results: Sequence[Result], *, config: Configuration) -> dict[int, datetime]:
    while True:
        try:
            return dict(
                _for_all(lambda some: _settle(some, config=config), results, get_claim=lambda one: one.delivery.claim)
            )
        except (OperationalError, InterfaceError) as error:
            connection.close()
            if timezone.now() > max(result.delivery.claim.until for result in results):
                raise
            log.warning("results_not_stored_yet", results=len(results), exc_info=error)
            time.sleep(SETTLE_RETRY_PAUSE.total_seconds())


def _settle(results: Sequence[Result], *, config: Configuration) -> list[tuple[int, datetime]]:
    """Complete the attempts, change the leads and record the events, all in one transaction."""
    now = timezone.now()
    with transaction.atomic():
        restrictions_exist = _complete_attempts(results, now=now)
        # A result is missing here if an earlier try was committed, but the confirmation was lost.
        stored = [result for result in results if result.delivery.attempt.pk in restrictions_exist]
        uncounted: set[int] = set()
        if any(restrictions_exist.values()) or any(result.response.error for result in stored):
            # A transaction that needs both locks the delivery control row before the leads' rows.
            uncounted = circuit.record_responses(
                [(result.delivery.claim.lead.pk, result.response) for result in stored],
                restrictions_exist=any(restrictions_exist.values()),
                policy=config.circuit,
                now=now,
            )
        outcomes = [_outcome(one, uncounted=uncounted, config=config, now=now) for one in stored]
        outcomes.sort(key=lambda one: one.change.lead.pk)
        change_leads([one.change for one in outcomes], actor=WORKER, now=now)
    for one in outcomes:
        _log(one)
    return [(one.change.lead.pk, one.enqueue_at) for one in outcomes if one.enqueue_at]


_COMPLETE_ATTEMPTS = """
    UPDATE delivery_attempt SET response_status = new.response_status, response_body = new.response_body,
        error_message = new.error_message, error = new.error, success = new.success, finished_at = new.finished_at,
        duration_ms = new.duration_ms
    FROM {new} WHERE delivery_attempt.id = new.id AND delivery_attempt.finished_at IS NULL
    RETURNING delivery_attempt.id, {restrictions_exist}
"""
_RESULT = columns_of(
    DeliveryAttempt,
    *("id", "response_status", "response_body", "error_message", "error", "success", "finished_at", "duration_ms"),
)


def _complete_attempts(results: Sequence[Result], *, now: datetime) -> dict[int, bool]:
    """Store the responses in the attempts' rows.

    :returns: for each attempt that was not complete already, whether delivery control has restrictions.
    """
    rows = []
    for result in results:
        response, error = result.response, result.response.error
        message, stored = (error.message, error.as_json()) if error else (None, None)
        key, body = result.delivery.attempt.pk, response.body or None
        rows.append((key, response.status, body, message, stored, error is None, now, response.duration_ms))
    new, parameters = as_table(_RESULT, rows)
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE_ATTEMPTS.format(new=new, restrictions_exist=RESTRICTIONS_EXIST), parameters)
        return {attempt: bool(restrictions_exist) for attempt, restrictions_exist in cursor.fetchall()}


@dataclass(frozen=True)
class _Outcome:
    """What a result means for the lead."""

    result: Result
    change: LeadChange
    #: The wait before the next attempt; None: the lead is delivered.
    next_step: timedelta | GiveUp | None
    enqueue_at: datetime | None = None


def _outcome(result: Result, *, uncounted: set[int], config: Configuration, now: datetime) -> _Outcome:
    """Decide what becomes of the lead: delivered, waiting for the next attempt, or given up."""
    claim, attempt, response = result.delivery.claim, result.delivery.attempt, result.response
    lead, enqueue_at, detail = claim.lead, None, None
    error = response.error.as_json() if response.error else None
    next_step: timedelta | GiveUp | None = None
    columns: dict[str, Any]
    if error is None:
        to, columns = LeadStatus.DELIVERED, {"delivered_at": now, "rejection_reason": None, "next_attempt_at": None}
    else:
        uncounted_attempts = lead.uncounted_attempts + (lead.pk in uncounted)
        counted = attempt.attempt_no - uncounted_attempts
        next_step = after_failure(config.policy, response.status, counted, response.retry_after, now=now)
        if isinstance(next_step, GiveUp):
            reason: dict[str, Any] = {"code": next_step, "error": error}
            if next_step is GiveUp.EXHAUSTED:
                reason["attempts"] = counted
            detail = {"reason": reason}
            to, columns = LeadStatus.PERMANENTLY_FAILED, {"next_attempt_at": None}
        else:
            due = now + next_step
            # The caller enqueues the message for a short wait.
            enqueue_at = due if next_step <= LONGEST_COUNTDOWN else None
            to = LeadStatus.FAILED
            columns = {"uncounted_attempts": uncounted_attempts, "next_attempt_at": due, "enqueued_at": enqueue_at}
    finished = {
        "attempt_no": attempt.attempt_no,
        "response_status": response.status,
        "error": error,
        "duration_ms": response.duration_ms,
        "next_attempt_in_s": next_step.total_seconds() if isinstance(next_step, timedelta) else None,
        "resent": response.resent or None,
    }
    change = LeadChange(
        lead,
        to,
        claim=claim.token,
        detail=detail,
        events_before=[build_event(lead, EventKind.ATTEMPT_FINISHED, actor=WORKER, now=now, detail=finished)],
        columns={**columns, "last_answer": response.last_answer, **_RELEASED},
    )
    return _Outcome(result, change, next_step, enqueue_at)


def _log(outcome: _Outcome) -> None:
    response, next_step, ids = outcome.result.response, outcome.next_step, outcome.result.delivery.claim.ids
    slow = response.duration_ms > _SLOW_DELIVERY_MS
    write = log.warning if slow or response.error else log.info
    write(
        "slow_delivery" if slow else "delivery_attempted",
        **ids,
        attempt_no=outcome.result.delivery.attempt.attempt_no,
        status=outcome.change.to,
        response_status=response.status,
        error=response.error.message if response.error else None,
        duration_ms=response.duration_ms,
        next_attempt_in_s=next_step.total_seconds() if isinstance(next_step, timedelta) else None,
    )
    if isinstance(next_step, GiveUp):
        log.error("lead_permanently_failed", **ids, reason=next_step)
