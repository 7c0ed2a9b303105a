"""What happened to a lead, in words: pure functions of an event. `detail` is read as whoever wrote it left it.

The words are the same in the terminal, in the list of events and on the lead's page.
"""

from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from delivery.models import BulkActionKind
from leadgateway.time_format import declined_span
from leads.audit.number_ranges import in_ranges
from leads.models import EventKind, LeadEvent, LeadStatus
from stats.masking import UNCOVERED, Cover
from stats.text import filters
from stats.text.stored_texts import translate_stored_text

Detail = dict[str, Any]

#: What the keys of a detail mean, in the order in which they are told; any other key is shown as it is.
_MEANINGS: dict[str, Any] = {
    "kind": "{}",
    "leads": gettext_lazy("leads: {}"),
    "unprocessed": gettext_lazy("not done: {}"),
    "other_leads": gettext_lazy("leads of others: {}"),
    "busy_leads": gettext_lazy("left, as they were being worked on: {}"),
    "counts": "{}",
    "attempts": gettext_lazy("attempts: {}"),
    "events": gettext_lazy("events: {}"),
    "bulk_actions": gettext_lazy("orders: {}"),
    "details": gettext_lazy("in events: {}"),
    "by": gettext_lazy("by means of {}"),
    "selection": gettext_lazy("selection: {}"),
    "format": "{}",
    "attributes": gettext_lazy("sent: {}"),
    "omitted": gettext_lazy("left out: {}"),
    "mapping": gettext_lazy("mapping file {:.8}"),
    "response_status": "HTTP {}",
    "error": "{}",
    "duration_ms": "{} ms",
    "next_attempt_in_s": gettext_lazy("next attempt in {}"),
    "reason": "{}",
    "missing": gettext_lazy("missing: {}"),
    "notes": "{}",
    "minutes": gettext_lazy("for {} min"),
    "bulk_action": gettext_lazy("order {}"),
    "failures": gettext_lazy("failures in a row: {}"),
    "last_answer": gettext_lazy("the last: {}"),
    "down_s": gettext_lazy("after {}"),
    "paused_s": gettext_lazy("after {}"),
    "probes": gettext_lazy("tried: {} times"),
}

#: The keys that hold a time in seconds.
_SPANS = ("next_attempt_in_s", "down_s", "paused_s")

_TITLES: dict[str, Any] = {
    EventKind.ATTEMPT_STARTED: gettext_lazy("Attempt {number} started"),
    EventKind.ATTEMPT_FINISHED: gettext_lazy("Attempt {number} finished"),
}

#: What people do; the gateway's own parts do the rest.
BY_PEOPLE = (
    *(EventKind.REDELIVERED, EventKind.REPROCESSED, EventKind.RESOLVED, EventKind.REVEALED),
    *(EventKind.BULK_ACTION_CREATED, EventKind.BULK_ACTION_CANCELLED, EventKind.EXPORTED),
    *(EventKind.DELIVERY_PAUSED, EventKind.DELIVERY_RESUMED),
    *(EventKind.ERASED, EventKind.PERSON_ERASED, EventKind.PERSON_EXPORTED, EventKind.RETENTION_APPLIED),
)

_LONGEST_WAIT_S = 10**9


def in_words(event: LeadEvent) -> str:
    """Return all that an event says in a line, such as `Attempt 2 finished: HTTP 503; 120 ms`; no personal data."""
    what = what_happened(event)
    if event.kind in BY_PEOPLE:
        what = _("{what} by {actor}").format(what=what, actor=event.actor)
    return ": ".join(part for part in (what, status_step(event), detail_in_words(event)) if part)


def what_happened(event: LeadEvent) -> str:
    """Return what happened in a few words."""
    number = _detail(event).get("attempt_no")
    if number is not None and event.kind in _TITLES:
        return str(_TITLES[event.kind]).format(number=number)
    return str(dict(EventKind.choices).get(event.kind, event.kind))


def status_step(event: LeadEvent) -> str:
    """Return the change of status that the event was; nothing if it was none."""
    return " → ".join(_status(code) for code in (event.from_status, event.to_status) if code)


def _status(code: str) -> str:
    return str(dict(LeadStatus.choices).get(code, code))


def detail_in_words(event: LeadEvent, cover: Cover = UNCOVERED) -> str:
    """Return an event's detail in a line that a person can read, as far as it may be seen; nothing if it has none."""
    detail = _detail(event)
    keys = [*(key for key in _MEANINGS if key in detail), *(key for key in detail if key not in _MEANINGS)]
    parts = (
        _told(key, detail[key], cover) for key in keys if key != "attempt_no" and detail[key] not in (None, {}, [], "")
    )
    return "; ".join(dict.fromkeys(parts))  # HTTP 503 is an error too: once


def wait_in_words(seconds: Any) -> str | None:
    """Return a wait as people say it after `in` or `after`; None for what is no number."""
    if not isinstance(seconds, int | float):
        return None
    return declined_span(timedelta(seconds=max(0, min(seconds, _LONGEST_WAIT_S))))


def _detail(event: LeadEvent) -> Detail:
    if isinstance(event.detail, dict):
        return event.detail
    return {} if event.detail is None else {"detail": event.detail}


def _told(key: str, value: Any, cover: Cover) -> str:
    if key in _SPANS:
        text = wait_in_words(value) or _plain(value, cover)
    elif key == "kind":
        text = next((str(label) for kind, label in BulkActionKind.choices if kind == value), _plain(value, cover))
    elif key == "details" and isinstance(value, dict) and all(map(str.isdecimal, value)):
        text = in_ranges(map(int, value))  # the numbers of events; their seals say nothing to people
    elif key == "counts" and isinstance(value, dict):
        text = _plain({_status(code): number for code, number in value.items()}, cover)
    elif key == "selection":
        text = cover.text(filters.told(str(value)))
    else:
        text = _plain(value, cover)
    return str(_MEANINGS[key]).format(text) if key in _MEANINGS else f"{cover.text(key)}: {text}"


def _plain(value: Any, cover: Cover) -> str:
    if isinstance(value, dict):
        members = (f"{cover.text(name)} ({_plain(why, cover)})" for name, why in value.items())
        return ", ".join(members) or _("nothing")
    if isinstance(value, list):
        return ", ".join(_plain(item, cover) for item in value) or _("nothing")
    return f"{value:g}" if isinstance(value, float) else cover.text(translate_stored_text(str(value)))
