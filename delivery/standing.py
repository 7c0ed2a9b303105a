"""Where a lead stands, in words: pure functions of its row, its attempts (in order), the time and the retry policy."""

from collections.abc import Sequence
from datetime import datetime

from delivery.models import DeliveryAttempt
from delivery.retry import RetryPolicy, Verdict, verdict
from leads.models import InboundLead, LeadStatus
from leads.moments import span, timestamp
from leads.rules import RejectionReason

Attempts = Sequence[DeliveryAttempt]

OUTCOME_UNKNOWN = "outcome unknown"

_REASONS: dict[str | None, str] = {
    RejectionReason.ZIP_NOT_66XXX: "its zip code is not 66xxx",
    RejectionReason.NOT_HOMEOWNER: "its sender does not say that the house is the person's own",
    RejectionReason.MISSING_REQUIRED_FIELD: "its phone or the product name is missing",
}


def standing(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    """Return one sentence, such as `Lead 12 waits for attempt 3 of 5, due in 42 s.`; no personal data."""
    return f"Lead {lead.pk} {_predicate(lead, attempts, now=now, policy=policy)}."


def running_attempt(lead: InboundLead, attempts: Attempts, *, now: datetime) -> DeliveryAttempt | None:
    """Return the attempt that a worker is busy with; None when there is none or its worker must be dead.

    :param now: taken before lead and attempts were read: an attempt that began later belongs to a claim unseen here.
    """
    last = attempts[-1] if attempts else None
    if last is None or last.has_outcome:
        return None
    return last if _is_held(lead, now) or last.requested_at >= now else None


def error_text(attempt: DeliveryAttempt, *, running: DeliveryAttempt | None) -> str | None:
    """Return what went wrong with an attempt; None for one that went well or is the `running` one."""
    if attempt.has_outcome:
        return attempt.error_message
    return None if attempt is running else OUTCOME_UNKNOWN


def _predicate(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    match lead.status:
        case LeadStatus.DELIVERED:
            return _delivered(attempts)
        case LeadStatus.REJECTED:
            return f"was rejected{_because(lead)}"
        case LeadStatus.PERMANENTLY_FAILED:
            return _given_up(lead, attempts)
    if _is_held(lead, now):
        return _in_hand(lead, attempts, now=now, policy=policy)
    if lead.next_attempt_at is None:
        return f"is stopped{_because(lead)}; nothing more happens to it by itself"
    return f"waits for {_next_step(lead, attempts, policy)}{_when(lead, lead.next_attempt_at, now)}"


def _is_held(lead: InboundLead, now: datetime) -> bool:
    return lead.claimed_until is not None and lead.claimed_until > now


def _because(lead: InboundLead) -> str:
    code = lead.rejection_reason
    words = _REASONS.get(code)
    return f": {words} ({code})" if words else f": {code}" if code else ""


def _delivered(attempts: Attempts) -> str:
    success = next((attempt for attempt in reversed(attempts) if attempt.success), None)
    if success is None:
        return "was delivered"
    return f"was delivered by attempt {success.attempt_no} at {timestamp(success.finished_at or success.requested_at)}"


def _given_up(lead: InboundLead, attempts: Attempts) -> str:
    count = _made(attempts) - lead.attempts_forgiven
    if count < 1:
        return "was given up without an attempt"
    last = attempts[-1]
    if last.response_status is not None and verdict(last.response_status) is Verdict.PERMANENT:
        return (
            f"was refused by the customer for good: attempt {last.attempt_no} was answered HTTP {last.response_status}"
        )
    after = "1 attempt" if count == 1 else f"{count} attempts"
    why = error_text(last, running=None)
    return f"was given up after {after}" + (f"; the last one: {why}" if why else "")


def _in_hand(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    running = running_attempt(lead, attempts, now=now)
    if running is None:
        return f"is in a worker's hands, for {_next_step(lead, attempts, policy)}"
    which = _place(running.attempt_no, lead, policy)
    return f"is being delivered right now: {which} began {span(now - running.requested_at)} ago"


def _next_step(lead: InboundLead, attempts: Attempts, policy: RetryPolicy) -> str:
    if lead.status == LeadStatus.RECEIVED:
        return "validation"
    made = _made(attempts)
    if policy.exhausted(made - lead.attempts_forgiven):
        return "being given up, as it has no attempt left"
    return _place(made + 1, lead, policy)


def _place(attempt_no: int, lead: InboundLead, policy: RetryPolicy) -> str:
    """Name an attempt by its place in the schedule, which starts anew when an operator orders another delivery."""
    place = f"attempt {attempt_no - lead.attempts_forgiven} of {policy.max_attempts}"
    return f"{place} (number {attempt_no} in all)" if lead.attempts_forgiven else place


def _when(lead: InboundLead, due: datetime, now: datetime) -> str:
    if due > now:
        return f", due in {span(due - now)}"
    if lead.claimed_until is None:
        return f"; it has been due for {span(now - due)} and no worker has taken it yet"
    return f"; the worker that had it was lost {span(now - max(due, lead.claimed_until))} ago"


def _made(attempts: Attempts) -> int:
    return attempts[-1].attempt_no if attempts else 0
