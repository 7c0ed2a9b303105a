"""A lead's life as one list, oldest first: its trail, with one entry for each attempt, and what comes next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.models import DeliveryAttempt
from delivery.retry import RetryPolicy
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.masking import UNCOVERED, Cover
from stats.text.events import BY_PEOPLE, detail_in_words, status_step, wait_in_words, what_happened
from stats.text.status_summary import Attempts, is_in_progress, next_step, place, running_attempt
from stats.text.stored_texts import translate_stored_text

_OF_ATTEMPTS = (EventKind.ATTEMPT_STARTED, EventKind.ATTEMPT_FINISHED)

#: What an entry's sign looks like, by what happened; the names are those of the Material Symbols.
_ICONS: dict[str, str] = {
    EventKind.RECEIVED: "move_to_inbox",
    EventKind.DUPLICATE: "content_copy",
    EventKind.STATUS: "swap_horiz",
    EventKind.MAPPED: "transform",
    EventKind.REVEALED: "visibility",
}


@dataclass(frozen=True)
class Entry:
    """One thing that happened, or will."""

    title: str
    icon: str
    at: datetime | None = None
    #: A status whose colour it has, or "".
    tone: str = ""
    #: The change of status that it was.
    step: str = ""
    text: str = ""
    actor: str = ""
    #: Of an attempt: its label, and the customer's answer as it came.
    label: str = ""
    attempt: DeliveryAttempt | None = None
    #: It has not happened yet.
    is_ahead: bool = False
    #: So many entries are left out here.
    left_out: int = 0


@dataclass(frozen=True)
class Trail:
    """A lead's events: all of them, or both ends and how many are left out between."""

    first: Sequence[LeadEvent]
    last: Sequence[LeadEvent] = ()
    left_out: int = 0


def timeline(
    lead: InboundLead,
    trail: Trail,
    attempts: Attempts,
    *,
    now: datetime,
    policy: RetryPolicy,
    cover: Cover = UNCOVERED,
) -> list[Entry]:
    """Return the entries in the order of their times; events and attempts of the same time in the order given.

    :param attempts: in order; those of the trail that are not among them are told by their events.
    :param now: taken before anything was read.
    :param cover: what may be seen of the texts of others.
    """
    running = running_attempt(lead, attempts, now=now)
    numbers = {attempt.attempt_no for attempt in attempts}
    waits = _waits(event for event in (*trail.first, *trail.last) if event.kind == EventKind.ATTEMPT_FINISHED)
    entries = [
        *_of_events(trail.first, numbers, cover),
        *_gap(trail),
        *_of_events(trail.last, numbers, cover),
        *(
            replace(_of_attempt(each, lead, each is running, policy), text=_in_words(each, waits, cover))
            for each in attempts
        ),
    ]
    return [*sorted(entries, key=lambda entry: entry.at or now), *_ahead(lead, attempts, running, now, policy)]


def _of_events(events: Iterable[LeadEvent], numbers: set[int], cover: Cover) -> list[Entry]:
    return [_of_event(event, cover) for event in events if not _is_told_by_attempt(event, numbers)]


def _is_told_by_attempt(event: LeadEvent, numbers: set[int]) -> bool:
    number = _number_of(event)
    return event.kind in _OF_ATTEMPTS and number in numbers


def _number_of(event: LeadEvent) -> int | None:
    number = event.detail.get("attempt_no") if isinstance(event.detail, dict) else None
    return number if isinstance(number, int) else None


def _of_event(event: LeadEvent, cover: Cover) -> Entry:
    return Entry(
        title=cover.text(what_happened(event)),
        icon="person" if event.kind in BY_PEOPLE else _ICONS.get(event.kind, "circle"),
        at=event.at,
        tone=event.to_status.lower() if event.to_status in LeadStatus.values else "",
        step=status_step(event),
        text=detail_in_words(event, cover),
        actor=event.actor,
    )


def _gap(trail: Trail) -> list[Entry]:
    """Return the entry that stands for what is left out, as if it happened with what is before it."""
    if not trail.left_out:
        return []
    title = ngettext("{count} event is left out here", "{count} events are left out here", trail.left_out)
    title = title.format(count=number_format(trail.left_out, force_grouping=True))
    return [Entry(title, "more_vert", at=trail.first[-1].at, left_out=trail.left_out)]


def _waits(finished: Iterable[LeadEvent]) -> dict[int | None, Any]:
    """Return by an attempt's number how many seconds after it the next one was set."""
    return {_number_of(event): event.detail.get("next_attempt_in_s") for event in finished if _number_of(event)}


def _of_attempt(attempt: DeliveryAttempt, lead: InboundLead, is_running: bool, policy: RetryPolicy) -> Entry:
    label, tone, icon = _outcome(attempt, is_running)
    which = place(attempt.attempt_no, lead, policy)
    return Entry(_capitalized(which), icon, at=attempt.requested_at, tone=tone, label=label, attempt=attempt)


def _outcome(attempt: DeliveryAttempt, is_running: bool) -> tuple[str, str, str]:
    """Return an attempt's label, its tone and its icon."""
    if is_running:
        return _("Running"), "ready", "sync"
    if not attempt.has_outcome:
        return _("Outcome unknown"), "unknown", "question_mark"
    answer = "" if attempt.response_status is None else f" HTTP {attempt.response_status}"
    if attempt.success:
        return f"{_('Success')}{answer}", "delivered", "check"
    return f"{_('Failed')}{answer}", "failed", "close"


def _in_words(attempt: DeliveryAttempt, waits: dict[int | None, Any], cover: Cover) -> str:
    """Return what an attempt's label does not say."""
    parts, wait = [], wait_in_words(waits.get(attempt.attempt_no))
    if attempt.error_message and attempt.error_message != f"HTTP {attempt.response_status}":
        parts.append(cover.text(translate_stored_text(attempt.error_message)))
    if attempt.duration_ms is not None:
        parts.append(_("took {ms} ms").format(ms=number_format(attempt.duration_ms, force_grouping=True)))
    if wait:
        parts.append(_("next attempt set for {span} later").format(span=wait))
    return "; ".join(parts)


def _ahead(
    lead: InboundLead, attempts: Attempts, running: DeliveryAttempt | None, now: datetime, policy: RetryPolicy
) -> list[Entry]:
    """Return what comes next; nothing when that is only the end of the running attempt, or nothing at all."""
    if running is not None or not is_in_progress(lead, now=now):
        return []
    title = next_step(lead, attempts, now=now, policy=policy)
    return [Entry(_capitalized(title), "schedule", at=lead.next_attempt_at, is_ahead=True)]


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
