"""The status of a lead in words: pure functions of its row, its attempts, the current time and the retry policy.

Attempts are passed in order of their numbers.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.models import DeliveryAttempt, DeliveryControl
from delivery.retry import ResponseClass, RetryPolicy, classify_response
from leadgateway.time_format import declined_span, span, timestamp
from leads.models import OPEN_STATUSES, InboundLead, LeadStatus
from leads.rules import RejectionReason
from stats.text.delivery_control import obstacle
from stats.text.reasons import attempt_error

Attempts = Sequence[DeliveryAttempt]

#: Formats a time inside a sentence.
ShowTime = Callable[[datetime], str]

#: Part of the history's JSON, so it is not translated.
OUTCOME_UNKNOWN = "outcome unknown"

#: Values of `house.is_owner` that are shown, in lower case. Any other text may be personal data.
_SHOWN_OWNER_VALUES = ("", "true", "false", "yes", "no", "ja", "nein", "0", "1")


def status_summary(
    lead: InboundLead,
    attempts: Attempts,
    *,
    now: datetime,
    policy: RetryPolicy,
    show_time: ShowTime = timestamp,
    control: DeliveryControl | None = None,
) -> str:
    """Return what happened last and what happens next, without personal data.

    Such as `Attempt 2 of 5 failed with HTTP 503; attempt 3 of 5 is due in 42 s.` If delivery control keeps the lead
    from being sent, a second sentence says so.
    """
    parts = (_last_step(lead, attempts, now, policy, show_time), next_step(lead, attempts, now=now, policy=policy))
    sentence = "; ".join(filter(None, parts)) + "."
    reason = obstacle(control, now=now, show_time=show_time) if control and _waits_to_be_sent(lead, now) else None
    return f"{sentence} {reason}" if reason else sentence


def next_step(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    """Return what happens to the lead next, such as `attempt 3 of 5 is due in 42 s`; empty for a delivered lead."""
    if lead.status == LeadStatus.DELIVERED:
        return ""
    if is_in_progress(lead, now=now):
        return (
            _claimed_step(lead, attempts, now, policy) if _is_claimed(lead, now) else _due(lead, attempts, now, policy)
        )
    if lead.resolved_at is not None:
        return _("marked as resolved")
    if lead.status == LeadStatus.REJECTED:
        return _("not sent to the customer")
    return _("no automatic retries left")


def is_in_progress(lead: InboundLead, *, now: datetime) -> bool:
    """Return whether the gateway will work on the lead without an operator."""
    return lead.status in OPEN_STATUSES and (lead.next_attempt_at is not None or _is_claimed(lead, now))


def running_attempt(lead: InboundLead, attempts: Attempts, *, now: datetime) -> DeliveryAttempt | None:
    """Return the attempt that a worker is making; None when there is none, or its worker stopped unexpectedly.

    :param now: the time before lead and attempts were read. An attempt that began later belongs to a later claim.
    """
    last = attempts[-1] if attempts else None
    if last is None or last.has_outcome:
        return None
    return last if _is_claimed(lead, now) or last.requested_at >= now else None


def error_text(attempt: DeliveryAttempt, *, running: DeliveryAttempt | None) -> str | None:
    """Return the stored error of an attempt in English; None for a successful attempt and the `running` one."""
    if attempt.has_outcome:
        return attempt.error_message
    return None if attempt is running else OUTCOME_UNKNOWN


def attempt_name(attempt_no: int, lead: InboundLead, policy: RetryPolicy) -> str:
    """Return the name of an attempt by its place in the retry schedule, which a redelivery restarts."""
    number = attempt_no - lead.uncounted_attempts
    if number < 1:
        return _("attempt {number}").format(number=attempt_no)
    form = (
        _("attempt {number} of {max} ({total} in total)") if lead.uncounted_attempts else _("attempt {number} of {max}")
    )
    return form.format(number=number, max=policy.max_attempts, total=attempt_no)


def capitalize(text: str) -> str:
    """Return the text with its first letter in upper case and all others unchanged."""
    return text[:1].upper() + text[1:]


def _waits_to_be_sent(lead: InboundLead, now: datetime) -> bool:
    return lead.status != LeadStatus.RECEIVED and is_in_progress(lead, now=now) and not _is_claimed(lead, now)


def _is_claimed(lead: InboundLead, now: datetime) -> bool:
    return lead.claimed_until is not None and lead.claimed_until > now


def _last_number(attempts: Attempts) -> int:
    return attempts[-1].attempt_no if attempts else 0


# --- what happened last ----------------------------------------------------------------------------------------------


def _last_step(lead: InboundLead, attempts: Attempts, now: datetime, policy: RetryPolicy, show_time: ShowTime) -> str:
    match lead.status:
        case LeadStatus.DELIVERED:
            return _delivered(lead, attempts, policy, show_time)
        case LeadStatus.REJECTED:
            return _("Rejected") + _rejection(lead)
        case LeadStatus.PERMANENTLY_FAILED:
            return _permanently_failed(lead, attempts)
        case LeadStatus.RECEIVED:
            return _("Received") if not attempts else _("Reprocessing from the received payload")
    if lead.rejection_reason:
        return _("Stopped") + _rejection(lead)
    running = running_attempt(lead, attempts, now=now)
    # While the customer is down, a failed attempt is uncounted at once.
    counts = lead.status == LeadStatus.FAILED
    ended = [each for each in attempts if each is not running and (counts or each.attempt_no > lead.uncounted_attempts)]
    if ended:
        return capitalize(_ended(ended[-1], lead, policy))
    return _("Redelivery requested") if lead.uncounted_attempts else _("Validated and mapped")


def _rejection(lead: InboundLead) -> str:
    code = lead.rejection_reason
    if not code:
        return ""
    if code not in RejectionReason.values:
        return f": {code}"
    return f": {RejectionReason(code).label}{_received_owner(lead)} ({code})"


def _received_owner(lead: InboundLead) -> str:
    """Return the value of `house.is_owner` that the sender sent, if it explains the rejection."""
    if lead.rejection_reason != RejectionReason.NOT_HOMEOWNER or lead.erased_at is not None:
        return ""
    house = lead.raw_payload.get("house") if isinstance(lead.raw_payload, dict) else None
    if not isinstance(house, dict) or "is_owner" not in house:
        return _(" (missing)")
    match house["is_owner"]:
        case None:
            value = "null"
        case bool(owner):
            value = str(owner).lower()
        case str(text) if text.lower() in _SHOWN_OWNER_VALUES:
            value = f'"{text}"'
        case _:
            return ""
    return _(" (received {value})").format(value=value)


def _delivered(lead: InboundLead, attempts: Attempts, policy: RetryPolicy, show_time: ShowTime) -> str:
    success = next((attempt for attempt in reversed(attempts) if attempt.success), None)
    if success is None:
        return _("Delivered")
    return _("Delivered with {attempt} at {time}").format(
        attempt=attempt_name(success.attempt_no, lead, policy),
        time=show_time(success.finished_at or success.requested_at),
    )


def _permanently_failed(lead: InboundLead, attempts: Attempts) -> str:
    count = _last_number(attempts) - lead.uncounted_attempts
    if count < 1:
        return _("Permanently failed without an attempt")
    last = attempts[-1]
    if last.response_status is not None and classify_response(last.response_status) is ResponseClass.PERMANENT:
        return _("Rejected by the customer: attempt {number} returned HTTP {status}").format(
            number=last.attempt_no, status=last.response_status
        )
    after = ngettext(
        "Permanently failed after {count} attempt", "Permanently failed after {count} attempts", count
    ).format(count=count)
    return f"{after}: {_outcome(last)}"


def _ended(attempt: DeliveryAttempt, lead: InboundLead, policy: RetryPolicy) -> str:
    name = attempt_name(attempt.attempt_no, lead, policy)
    if not attempt.has_outcome:
        return _("{attempt} has an unknown outcome").format(attempt=name)
    if attempt.success:
        return _("{attempt} succeeded").format(attempt=name)
    if attempt.response_status is not None:
        return _("{attempt} failed with HTTP {status}").format(attempt=name, status=attempt.response_status)
    return _("{attempt} failed: {error}").format(attempt=name, error=_outcome(attempt))


def _outcome(attempt: DeliveryAttempt) -> str:
    if not attempt.has_outcome:
        return _("outcome unknown")
    if attempt.response_status is not None:
        return f"HTTP {attempt.response_status}"
    return attempt_error(attempt)


# --- what happens next -----------------------------------------------------------------------------------------------


def _claimed_step(lead: InboundLead, attempts: Attempts, now: datetime, policy: RetryPolicy) -> str:
    running = running_attempt(lead, attempts, now=now)
    if running is None:
        return _("a worker is preparing {step}").format(step=_step(lead, attempts, policy))
    name = attempt_name(running.attempt_no, lead, policy)
    return _("{attempt} has been running for {span}").format(attempt=name, span=span(now - running.requested_at))


def _step(lead: InboundLead, attempts: Attempts, policy: RetryPolicy) -> str:
    if lead.status == LeadStatus.RECEIVED:
        return _("validation")
    last = _last_number(attempts)
    if policy.exhausted(last - lead.uncounted_attempts):
        return _("the change to “permanently failed”")
    return attempt_name(last + 1, lead, policy)


def _due(lead: InboundLead, attempts: Attempts, now: datetime, policy: RetryPolicy) -> str:
    step, due = _step(lead, attempts, policy), lead.next_attempt_at or now
    if due > now:
        return _("{step} is due in {span}").format(step=step, span=declined_span(due - now))
    if lead.claimed_until is None:
        return _("{step} has been due for {span} and is waiting for a worker").format(step=step, span=span(now - due))
    return _("{step} is due; the previous worker stopped unexpectedly {span} ago").format(
        step=step, span=declined_span(now - max(due, lead.claimed_until))
    )
