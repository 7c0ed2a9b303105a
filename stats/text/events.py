"""Events of the audit log in words: the same text in the terminal, in the list of events and on a lead's page.

The functions are pure. They accept a `detail` of any shape, because rows of the append-only table cannot be repaired.
"""

from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from delivery.models import BulkActionKind
from leadgateway.time_format import declined_span
from leads.audit.number_ranges import in_ranges
from leads.models import EventKind, LeadEvent, LeadStatus
from stats.masking import UNMASKED, Masker
from stats.text.filters import selection_text
from stats.text.reasons import code_text, is_reason, reason_text, response_text

Detail = dict[str, Any]

#: Key of a detail -> its label, in the order in which the keys are shown. Other keys follow, under their own names.
_LABELS: dict[str, Any] = {
    "kind": "{}",
    "leads": gettext_lazy("leads: {}"),
    "unprocessed": gettext_lazy("not processed: {}"),
    "other_leads": gettext_lazy("leads of other people: {}"),
    "busy_leads": gettext_lazy("skipped while being processed: {}"),
    "counts": "{}",
    "attempts": gettext_lazy("attempts: {}"),
    "events": gettext_lazy("events: {}"),
    "bulk_actions": gettext_lazy("bulk actions: {}"),
    "details": gettext_lazy("in events: {}"),
    "by": gettext_lazy("via {}"),
    "selection": gettext_lazy("selection: {}"),
    "format": "{}",
    "attributes": gettext_lazy("sent: {}"),
    "omitted": gettext_lazy("not sent: {}"),
    "mapping": gettext_lazy("mapping file {:.8}"),
    "response_status": "HTTP {}",
    "error": "{}",
    "resent": gettext_lazy("sent again because the connection was closed"),
    "duration_ms": "{} ms",
    "next_attempt_in_s": gettext_lazy("next attempt in {}"),
    "reason": "{}",
    "missing": gettext_lazy("missing: {}"),
    "notes": "{}",
    "minutes": gettext_lazy("for {} min"),
    "bulk_action": gettext_lazy("bulk action {}"),
    "failures": gettext_lazy("consecutive failures: {}"),
    "last_answer": gettext_lazy("last response: {}"),
    "down_s": gettext_lazy("after {}"),
    "paused_s": gettext_lazy("after {}"),
    "probes": gettext_lazy("recovery checks: {}"),
}

#: Keys whose value is a number of seconds.
_DURATIONS = ("next_attempt_in_s", "down_s", "paused_s")

_NUMBERED_TITLES: dict[str, Any] = {
    EventKind.ATTEMPT_STARTED: gettext_lazy("Attempt {number} started"),
    EventKind.ATTEMPT_FINISHED: gettext_lazy("Attempt {number} finished"),
}

#: Events that people cause. The gateway's own processes cause all others.
BY_PEOPLE = (
    *(EventKind.REDELIVERED, EventKind.REPROCESSED, EventKind.RESOLVED, EventKind.REVEALED),
    *(EventKind.BULK_ACTION_CREATED, EventKind.BULK_ACTION_CANCELLED, EventKind.EXPORTED),
    *(EventKind.DELIVERY_PAUSED, EventKind.DELIVERY_RESUMED),
    *(EventKind.ERASED, EventKind.PERSON_ERASED, EventKind.PERSON_EXPORTED, EventKind.RETENTION_APPLIED),
)

_MAX_DURATION_S = 10**9


def event_text(event: LeadEvent) -> str:
    """Return an event in one line, such as `Attempt 2 finished: HTTP 503; 120 ms`, without personal data."""
    title = event_title(event)
    if event.kind in BY_PEOPLE:
        title = _("{event} by {actor}").format(event=title, actor=event.actor)
    return ": ".join(part for part in (title, status_change(event), detail_text(event)) if part)


def event_title(event: LeadEvent) -> str:
    """Return the name of an event, with the number of the attempt if it belongs to one."""
    number = _detail(event).get("attempt_no")
    if number is not None and event.kind in _NUMBERED_TITLES:
        return str(_NUMBERED_TITLES[event.kind]).format(number=number)
    return str(dict(EventKind.choices).get(event.kind, event.kind))


def status_change(event: LeadEvent) -> str:
    """Return the status before and after an event, such as `Ready → Failed`; empty if it changed no status."""
    return " → ".join(_status(code) for code in (event.from_status, event.to_status) if code)


def detail_text(event: LeadEvent, masker: Masker = UNMASKED) -> str:
    """Return an event's detail in one line; empty if the event has no detail."""
    detail = _detail(event)
    keys = [*(key for key in _LABELS if key in detail), *(key for key in detail if key not in _LABELS)]
    parts = (
        _part(key, detail[key], masker) for key in keys if key != "attempt_no" and detail[key] not in (None, {}, [], "")
    )
    return "; ".join(dict.fromkeys(parts))  # the status and the error may both be "HTTP 503"


def duration_text(seconds: Any) -> str | None:
    """Return a number of seconds in the form that follows `in` or `after`; None if it is not a number."""
    if not isinstance(seconds, int | float):
        return None
    return declined_span(timedelta(seconds=max(0, min(seconds, _MAX_DURATION_S))))


def _status(code: str) -> str:
    return str(dict(LeadStatus.choices).get(code, code))


def _detail(event: LeadEvent) -> Detail:
    if isinstance(event.detail, dict):
        return event.detail
    return {} if event.detail is None else {"detail": event.detail}


def _part(key: str, value: Any, masker: Masker) -> str:
    text = _special_value(key, value)
    shown = _value(value, masker) if text is None else masker.text(text)
    return str(_LABELS[key]).format(shown) if key in _LABELS else f"{masker.text(key)}: {shown}"


def _special_value(key: str, value: Any) -> str | None:
    """Return the text of a value whose key says how to read it; None for any other value."""
    if key in _DURATIONS:
        return duration_text(value)
    if key == "kind":
        return next((str(label) for kind, label in BulkActionKind.choices if kind == value), None)
    if key == "details" and isinstance(value, dict) and all(map(str.isdecimal, value)):
        return in_ranges(map(int, value))  # the ids of events; the hashes say nothing to people
    if key == "counts" and isinstance(value, dict):
        return ", ".join(f"{_status(status)} ({number})" for status, number in value.items())
    if key == "selection":
        return selection_text(str(value))
    if key == "last_answer" and isinstance(value, str):
        return response_text(value)
    if key == "notes" and isinstance(value, list):
        return ", ".join(code_text(str(code)) for code in value)
    return None


def _value(value: Any, masker: Masker) -> str:
    if is_reason(value):
        return masker.text(reason_text(value))
    if isinstance(value, dict):
        members = (f"{masker.text(name)} ({_value(item, masker)})" for name, item in value.items())
        return ", ".join(members) or _("nothing")
    if isinstance(value, list):
        return ", ".join(_value(item, masker) for item in value) or _("nothing")
    return f"{value:g}" if isinstance(value, float) else masker.text(str(value))
