"""How leads and their trail are shown to people: times, JSON and text of others, safe to put on a page."""

import json
import re
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from leadgateway.time_format import declined_span
from leads.models import LeadStatus
from stats.masking import UNCOVERED, Cover

NOTHING = "–"

#: Signs that are not seen: they turn the text around them, split or join words, or are meant for machines.
_INVISIBLE = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


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
        return _("in {span}").format(span=declined_span(at - now))
    return _("{span} ago").format(span=declined_span(now - at))


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
    """Return a text in which signs that nobody would see are seen as the escapes of JSON; line ends and tabs stay."""
    return _INVISIBLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    digits = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[start : start + 4]}" for start in range(0, len(digits), 4))


def pretty_json(value: Any) -> str:
    """Return indented JSON, in people's own letters as far as they can be seen."""
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def formatted(text: str, cover: Cover = UNCOVERED) -> str:
    """Return a text of others to be read, as far as it may be seen: JSON indented, anything else as it is."""
    try:
        if text.lstrip().startswith(("{", "[")):
            return pretty_json(cover.json(json.loads(text)))
    except (ValueError, RecursionError):
        pass
    return visible(cover.text(text))


def block(text: str) -> SafeString:
    """Return a text of any length as a block that keeps its lines, and its direction to itself."""
    return format_html('<pre class="gateway-block" dir="auto">{}</pre>', text)


def json_block(value: Any) -> str:
    """Return JSON as a block; the sign for nothing when there is none."""
    return NOTHING if value is None else block(pretty_json(value))


def badge(text: str, tone: str) -> SafeString:
    """Return a coloured label; the tones are in gateway.css."""
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
