"""The timeline of a lead: its events and attempts in one list, oldest first, and the next step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.models import DeliveryAttempt
from delivery.retry import RetryPolicy
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.masking import UNMASKED, Masker
from stats.text.events import BY_PEOPLE, detail_text, duration_text, event_title, status_change
from stats.text.reasons import attempt_error
from stats.text.status_summary import (
    Attempts,
    attempt_name,
    capitalize,
    is_in_progress,
    next_step,
    running_attempt,
)

_ATTEMPT_EVENTS = (EventKind.ATTEMPT_STARTED, EventKind.ATTEMPT_FINISHED)

#: Kind of event -> name of its Material Symbol.
_ICONS: dict[str, str] = {
    EventKind.RECEIVED: "move_to_inbox",
    EventKind.DUPLICATE: "content_copy",
    EventKind.STATUS: "swap_horiz",
    EventKind.MAPPED: "transform",
    EventKind.REVEALED: "visibility",
}


@dataclass(frozen=True)
class Entry:
    """One line of the timeline."""

    title: str
    icon: str
    at: datetime | None = None
    #: The status whose colour the entry has; empty for none.
    tone: str = ""
    status_change: str = ""
    text: str = ""
    actor: str = ""
    #: For an attempt: its outcome, and the row with the customer's response.
    label: str = ""
    attempt: DeliveryAttempt | None = None
    #: Whether it is the next step and has not happened yet.
    is_next: bool = False
    #: Number of events that this entry stands for because they are not shown.
    hidden: int = 0


@dataclass(frozen=True)
class EventLog:
    """The events of a lead: all of them, or the first and the last and the number of hidden events between them."""

    first: Sequence[LeadEvent]
    last: Sequence[LeadEvent] = ()
    hidden: int = 0


def timeline(
    lead: InboundLead,
    log: EventLog,
    attempts: Attempts,
    *,
    now: datetime,
    policy: RetryPolicy,
    masker: Masker = UNMASKED,
) -> list[Entry]:
    """Return the entries by time; events and attempts of the same time keep the given order.

    :param attempts: in order. An attempt that is not among them is shown by its events.
    :param now: the time before anything was read.
    """
    running = running_attempt(lead, attempts, now=now)
    numbers = {attempt.attempt_no for attempt in attempts}
    finished = _finished((*log.first, *log.last))
    entries = [
        *_event_entries(log.first, numbers, masker),
        *_hidden_events(log),
        *_event_entries(log.last, numbers, masker),
        *(
            _attempt_entry(
                each, capitalize(attempt_name(each.attempt_no, lead, policy)), each is running, finished, masker
            )
            for each in attempts
        ),
    ]
    return [*sorted(entries, key=lambda entry: entry.at or now), *_next_entry(lead, attempts, running, now, policy)]


def _event_entries(events: Iterable[LeadEvent], shown_attempts: set[int], masker: Masker) -> list[Entry]:
    return [_event_entry(event, masker) for event in events if not _is_shown_as_attempt(event, shown_attempts)]


def _is_shown_as_attempt(event: LeadEvent, shown_attempts: set[int]) -> bool:
    return event.kind in _ATTEMPT_EVENTS and _attempt_number(event) in shown_attempts


def _attempt_number(event: LeadEvent) -> int | None:
    number = event.detail.get("attempt_no") if isinstance(event.detail, dict) else None
    return number if isinstance(number, int) else None


def _event_entry(event: LeadEvent, masker: Masker) -> Entry:
    return Entry(
        title=masker.text(event_title(event)),
        icon="person" if event.kind in BY_PEOPLE else _ICONS.get(event.kind, "circle"),
        at=event.at,
        tone=event.to_status.lower() if event.to_status in LeadStatus.values else "",
        status_change=status_change(event),
        text=detail_text(event, masker),
        actor=event.actor,
    )


def _hidden_events(log: EventLog) -> list[Entry]:
    """Return the entry for hidden events, with the time of the event before them."""
    if not log.hidden:
        return []
    title = ngettext("{count} event not shown", "{count} events not shown", log.hidden)
    title = title.format(count=number_format(log.hidden, force_grouping=True))
    return [Entry(title, "more_vert", at=log.first[-1].at, hidden=log.hidden)]


def _finished(events: Iterable[LeadEvent]) -> dict[int, dict[str, Any]]:
    """Return, by attempt number, the detail of the event of its end."""
    return {
        number: event.detail
        for event in events
        if event.kind == EventKind.ATTEMPT_FINISHED and (number := _attempt_number(event))
    }


def _attempt_entry(
    attempt: DeliveryAttempt, title: str, is_running: bool, finished: dict[int, dict[str, Any]], masker: Masker
) -> Entry:
    label, tone, icon = _outcome(attempt, is_running)
    text = _attempt_text(attempt, finished.get(attempt.attempt_no, {}), masker)
    return Entry(title, icon, at=attempt.requested_at, tone=tone, label=label, attempt=attempt, text=text)


def _outcome(attempt: DeliveryAttempt, is_running: bool) -> tuple[str, str, str]:
    """Return an attempt's label, tone and icon."""
    if is_running:
        return _("Running"), "ready", "sync"
    if not attempt.has_outcome:
        return _("Outcome unknown"), "unknown", "question_mark"
    status = "" if attempt.response_status is None else f" HTTP {attempt.response_status}"
    if attempt.success:
        return f"{_('Success')}{status}", "delivered", "check"
    return f"{_('Failed')}{status}", "failed", "close"


def _attempt_text(attempt: DeliveryAttempt, finished: dict[str, Any], masker: Masker) -> str:
    """Return what an attempt's label does not say, also from the detail of the event of its end."""
    parts = []
    if attempt.response_status is None and (error := attempt_error(attempt)):
        parts.append(masker.text(error))
    if finished.get("resent"):
        parts.append(_("sent again because the connection was closed"))
    if attempt.duration_ms is not None:
        parts.append(_("took {ms} ms").format(ms=number_format(attempt.duration_ms, force_grouping=True)))
    if wait := duration_text(finished.get("next_attempt_in_s")):
        parts.append(_("next attempt due after {span}").format(span=wait))
    return "; ".join(parts)


def _next_entry(
    lead: InboundLead, attempts: Attempts, running: DeliveryAttempt | None, now: datetime, policy: RetryPolicy
) -> list[Entry]:
    """Return the next step; nothing while an attempt is running, or when nothing is due."""
    if running is not None or not is_in_progress(lead, now=now):
        return []
    title = next_step(lead, attempts, now=now, policy=policy)
    return [Entry(capitalize(title), "schedule", at=lead.next_attempt_at, is_next=True)]
