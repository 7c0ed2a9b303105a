"""Where a lead stands, in words: pure functions of its row, its attempts (in order), the time and the retry policy."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from delivery.models import DeliveryAttempt, DeliveryControl
from delivery.retry import ResponseClass, RetryPolicy, classify_response
from leadgateway.time_format import declined_span, span, timestamp
from leads.models import OPEN_STATUSES, InboundLead, LeadStatus
from leads.rules import RejectionReason
from stats.text.delivery_control import obstacle
from stats.text.stored_texts import translate_stored_text

Attempts = Sequence[DeliveryAttempt]

#: How a moment is written into a sentence.
ShowTime = Callable[[datetime], str]

#: Part of the history's JSON, so it is the same in every language.
OUTCOME_UNKNOWN = "outcome unknown"

_REASONS: dict[str | None, Any] = {
    RejectionReason.ZIP_NOT_66XXX: gettext_lazy("its zip code is not 66xxx"),
    RejectionReason.NOT_HOMEOWNER: gettext_lazy("its sender does not say that the house is the person's own"),
    RejectionReason.MISSING_REQUIRED_FIELD: gettext_lazy("its phone or the product name is missing"),
}


def standing(
    lead: InboundLead,
    attempts: Attempts,
    *,
    now: datetime,
    policy: RetryPolicy,
    show_time: ShowTime = timestamp,
    gate: DeliveryControl | None = None,
) -> str:
    """Return what happened last and what happens next, in a sentence without personal data.

    Such as `Attempt 2 of 5 failed with HTTP 503; attempt 3 of 5 is due in 42 s.` A second sentence says what keeps a
    lead that could go out.
    """
    last = _last(lead, attempts, now=now, policy=policy, show_time=show_time)
    sentence = f"{last}; {next_step(lead, attempts, now=now, policy=policy)}."
    keeps_it = obstacle(gate, now=now, show_time=show_time) if gate and _waits_to_go_out(lead, now) else None
    return f"{sentence} {keeps_it}" if keeps_it else sentence


def _waits_to_go_out(lead: InboundLead, now: datetime) -> bool:
    return lead.status != LeadStatus.RECEIVED and is_in_progress(lead, now=now) and not _is_held(lead, now)


def next_step(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    """Return what happens to the lead next, such as `attempt 3 of 5 is due in 42 s`."""
    if lead.status == LeadStatus.DELIVERED:
        return _("nothing is left to do")
    if is_in_progress(lead, now=now):
        in_hand = _is_held(lead, now)
        return (_in_hand if in_hand else _due)(lead, attempts, now=now, policy=policy)
    if lead.resolved_at is not None:
        return _("somebody marked it as settled")
    return _("nothing more happens to it by itself")


def is_in_progress(lead: InboundLead, *, now: datetime) -> bool:
    """Tell whether something will happen to the lead by itself."""
    return lead.status in OPEN_STATUSES and (lead.next_attempt_at is not None or _is_held(lead, now))


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


def place(attempt_no: int, lead: InboundLead, policy: RetryPolicy) -> str:
    """Name an attempt by its place in the schedule, which starts anew when an operator orders another delivery."""
    number = attempt_no - lead.uncounted_attempts
    if number < 1:
        return _("attempt {number}").format(number=attempt_no)
    form = (
        _("attempt {number} of {most} (number {total} in all)")
        if lead.uncounted_attempts
        else _("attempt {number} of {most}")
    )
    return form.format(number=number, most=policy.max_attempts, total=attempt_no)


# --- what happened last ----------------------------------------------------------------------------------------------


def _last(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy, show_time: ShowTime) -> str:
    match lead.status:
        case LeadStatus.DELIVERED:
            return _delivered(lead, attempts, policy, show_time)
        case LeadStatus.REJECTED:
            return _("Rejected") + _because(lead)
        case LeadStatus.PERMANENTLY_FAILED:
            return _given_up(lead, attempts)
        case LeadStatus.RECEIVED:
            return _("Received") if not attempts else _("To be processed anew, from what was posted")
    if lead.rejection_reason:
        return _("Stopped") + _because(lead)
    running = running_attempt(lead, attempts, now=now)
    counts = lead.status == LeadStatus.FAILED  # while the customer is down an attempt is forgiven at once
    ended = [each for each in attempts if each is not running and (counts or each.attempt_no > lead.uncounted_attempts)]
    if ended:
        return _capitalized(_ended(ended[-1], lead, policy))
    return _("To be delivered once more") if lead.uncounted_attempts else _("Checked and mapped")


def _because(lead: InboundLead) -> str:
    code = lead.rejection_reason
    words = _REASONS.get(code)
    return f": {words} ({code})" if words else f": {code}" if code else ""


def _delivered(lead: InboundLead, attempts: Attempts, policy: RetryPolicy, show_time: ShowTime) -> str:
    success = next((attempt for attempt in reversed(attempts) if attempt.success), None)
    if success is None:
        return _("Delivered")
    at = success.finished_at or success.requested_at
    return _("Delivered by {attempt} at {time}").format(
        attempt=place(success.attempt_no, lead, policy), time=show_time(at)
    )


def _given_up(lead: InboundLead, attempts: Attempts) -> str:
    count = _made(attempts) - lead.uncounted_attempts
    if count < 1:
        return _("Given up without an attempt")
    last = attempts[-1]
    if last.response_status is not None and classify_response(last.response_status) is ResponseClass.PERMANENT:
        return _("Refused by the customer for good: attempt {number} was answered HTTP {status}").format(
            number=last.attempt_no, status=last.response_status
        )
    after = ngettext("Given up after {count} attempt", "Given up after {count} attempts", count).format(count=count)
    return f"{after}: {_outcome(last)}"


def _ended(attempt: DeliveryAttempt, lead: InboundLead, policy: RetryPolicy) -> str:
    which = place(attempt.attempt_no, lead, policy)
    if not attempt.has_outcome:
        return _("{attempt} was begun, its outcome is unknown").format(attempt=which)
    if attempt.success:
        return _("{attempt} succeeded").format(attempt=which)
    if attempt.response_status is not None:
        return _("{attempt} failed with HTTP {status}").format(attempt=which, status=attempt.response_status)
    return _("{attempt} failed: {error}").format(attempt=which, error=_outcome(attempt))


def _outcome(attempt: DeliveryAttempt) -> str:
    if not attempt.has_outcome:
        return _("outcome unknown")
    if attempt.response_status is not None:
        return f"HTTP {attempt.response_status}"
    return translate_stored_text(attempt.error_message or "") or _("no answer")


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- what happens next -----------------------------------------------------------------------------------------------


def _is_held(lead: InboundLead, now: datetime) -> bool:
    return lead.claimed_until is not None and lead.claimed_until > now


def _in_hand(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    running = running_attempt(lead, attempts, now=now)
    if running is None:
        step = _next_step(lead, attempts, policy)
        return _("a worker has it in hand for {step}").format(step=step)
    which = place(running.attempt_no, lead, policy)
    return _("{attempt} has been running for {span}").format(attempt=which, span=span(now - running.requested_at))


def _next_step(lead: InboundLead, attempts: Attempts, policy: RetryPolicy) -> str:
    if lead.status == LeadStatus.RECEIVED:
        return _("validation")
    made = _made(attempts)
    if policy.exhausted(made - lead.uncounted_attempts):
        return _("giving it up, as it has no attempt left,")
    return place(made + 1, lead, policy)


def _due(lead: InboundLead, attempts: Attempts, *, now: datetime, policy: RetryPolicy) -> str:
    step, due = _next_step(lead, attempts, policy), lead.next_attempt_at or now
    if due > now:
        return _("{step} is due in {span}").format(step=step, span=declined_span(due - now))
    if lead.claimed_until is None:
        return _("{step} has been due for {span} and no worker has taken it yet").format(
            step=step, span=span(now - due)
        )
    return _("{step} is due: the worker that had it was lost {span} ago").format(
        step=step, span=declined_span(now - max(due, lead.claimed_until))
    )


def _made(attempts: Attempts) -> int:
    return attempts[-1].attempt_no if attempts else 0
