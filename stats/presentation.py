"""How leads and their trail are shown to people: times, JSON and events, safe to put on a page."""

import json
import re
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from leads.models import EventKind, LeadEvent, LeadStatus
from leads.moments import span

NOTHING = "–"

#: Signs that are not seen but turn the text around them, and line ends that JSON allows in a string.
_INVISIBLE = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

#: What the trail's details mean; a key that is not here is shown as it is.
_DETAILS = {
    "reason": "{}",
    "missing": "missing: {}",
    "notes": "{}",
    "attributes": "sent: {}",
    "omitted": "left out: {}",
    "mapping": "mapping file {:.8}",
    "response_status": "HTTP {}",
    "error": "{}",
    "duration_ms": "{} ms",
    "next_attempt_in_s": "next attempt in {} s",
}


def plain(value: object) -> str:
    """Return a value as text."""
    return NOTHING if value is None else str(value)


def exact(at: datetime | None) -> str:
    """Return a time to the second with its zone, as the reader's language writes it."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return f"{date_format(local, 'SHORT_DATE_FORMAT')} {time_format(local, 'H:i:s')} {local.tzname()}"


def relative(at: datetime, *, now: datetime) -> str:
    """Return how long ago a time was, or how far ahead it is, such as `3 min 20 s ago` or `in 42 s`."""
    if at > now:
        return _("in {span}").format(span=span(at - now))
    return _("{span} ago").format(span=span(now - at))


def moment(at: datetime | None, *, now: datetime | None = None) -> str:
    """Return a time for a page: the exact one, with the relative one beside it, which gateway.js keeps up to date."""
    if at is None:
        return NOTHING
    return format_html(
        '<time datetime="{}">{}</time> <span class="gateway-relative" data-relative="{}">{}</span>',
        at.isoformat(),
        exact(at),
        at.isoformat(),
        relative(at, now=now or timezone.now()),
    )


def time_of(at: datetime | None) -> str:
    """Return a time for a narrow place, such as a cell of a list: exact, the relative one by pointing at it."""
    if at is None:
        return NOTHING
    label = relative(at, now=timezone.now())
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), label, exact(at))


def visible(text: str) -> str:
    """Return a text in which signs that would turn the text around them are seen as escapes."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def pretty_json(value: Any) -> str:
    """Return indented JSON, in people's own letters as far as they can be seen."""
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def block(text: str) -> SafeString:
    """Return a text of any length as a block that keeps its lines, and its direction to itself."""
    return format_html('<pre class="gateway-block" dir="auto">{}</pre>', text)


def json_block(value: Any) -> str:
    """Return JSON as a block; the sign for nothing when there is none."""
    return NOTHING if value is None else block(pretty_json(value))


def badge(text: str, tone: str) -> SafeString:
    """Return a coloured label; the tones are in admin.css."""
    return format_html('<span class="gateway-badge gateway-{}">{}</span>', tone, text)


def status_badge(status: str) -> SafeString:
    """Return a lead's status as a label in its colour."""
    return badge(str(LeadStatus(status).label), status.lower())


def stacked(text: str, note: str | None) -> str:
    """Return a text with a note below it, if there is one."""
    return format_html('{}<div class="gateway-note">{}</div>', text, note) if note else text


def short_id(value: object) -> str:
    """Return the first eight digits of an id, with the whole id to be seen by pointing at it."""
    return NOTHING if value is None else format_html('<code title="{}">{:.8}</code>', value, str(value))


def what_happened(event: LeadEvent) -> str:
    """Return an event in a few words."""
    label = str(EventKind(event.kind).label)
    number = _detail(event).get("attempt_no")
    return label if number is None else label.replace("Attempt", f"Attempt {number}", 1)


def status_step(event: LeadEvent) -> str:
    """Return the change of status that the event was, if it was one."""
    labels = dict(LeadStatus.choices)
    return " → ".join(str(labels.get(code, code)) for code in (event.from_status, event.to_status) if code) or NOTHING


def detail_in_words(event: LeadEvent) -> str:
    """Return an event's detail in a line that a person can read."""
    told = {key: value for key, value in _detail(event).items() if value not in (None, {}) and key != "attempt_no"}
    parts = dict.fromkeys(_told(key, _plain(value)) for key, value in told.items())  # HTTP 503 is an error too: once
    return "; ".join(parts) or NOTHING


def _detail(event: LeadEvent) -> dict[str, Any]:
    return event.detail if isinstance(event.detail, dict) else {"detail": event.detail}


def _told(key: str, text: str) -> str:
    return _DETAILS[key].format(text) if key in _DETAILS else f"{key}: {text}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({_plain(why)})" for name, why in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)
