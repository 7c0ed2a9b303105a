"""Format values for the pages of the admin: times, numbers, JSON and untrusted text."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, number_format, time_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from leadgateway.time_format import declined_span, span
from leads.models import LeadStatus
from stats.masking import UNMASKED, Masker

#: Shown for a missing value.
NOTHING = "–"

#: Characters without a glyph: they change the direction of text, split or join words, or control a terminal.
_INVISIBLE = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def plain(value: object) -> str:
    """Return a value as text."""
    return NOTHING if value is None else str(value)


def number(value: float, decimals: int = 0) -> str:
    """Return a rounded number with the separators of the reader's language, such as `1,234`."""
    return str(number_format(round(value, decimals), decimals, force_grouping=True))  # number_format truncates


def duration(seconds: float | None) -> str:
    """Return a duration: to a tenth of a second if it is shorter than 10 s; NOTHING for None."""
    if seconds is None:
        return NOTHING
    return span(timedelta(seconds=seconds)) if seconds >= 10 else f"{number(seconds, 1)} s"


def exact_time(at: datetime | None) -> str:
    """Return a time to the second with its zone, in the format of the reader's language."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return f"{date_format(local, 'SHORT_DATE_FORMAT')} {time_format(local, 'H:i:s')} {local.tzname()}"


def relative_time(at: datetime, *, now: datetime) -> str:
    """Return a time relative to `now`, such as `3 min 20 s ago` or `in 42 s`."""
    if at > now:
        return _("in {span}").format(span=declined_span(at - now))
    return _("{span} ago").format(span=declined_span(now - at))


def full_time(at: datetime | None, *, now: datetime | None = None) -> str:
    """Return the exact and the relative time as HTML; gateway.js keeps the relative time up to date."""
    if at is None:
        return NOTHING
    return format_html(
        '<time datetime="{}">{}</time> <span class="gateway-relative" data-relative="{}">{}</span>',
        at.isoformat(),
        exact_time(at),
        at.isoformat(),
        relative_time(at, now=now or timezone.now()),
    )


def short_time(at: datetime | None) -> str:
    """Return the exact time as HTML for a narrow cell, with the relative time as its tooltip."""
    if at is None:
        return NOTHING
    label = relative_time(at, now=timezone.now())
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), label, exact_time(at))


def escape_invisible(text: str) -> str:
    """Return a text with invisible characters replaced by JSON escapes; line ends and tabs stay."""
    return _INVISIBLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    digits = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[start : start + 4]}" for start in range(0, len(digits), 4))


def pretty_json(value: Any) -> str:
    """Return indented JSON with non-ASCII letters kept and invisible characters escaped."""
    return escape_invisible(json.dumps(value, indent=2, ensure_ascii=False))


def readable(text: str, masker: Masker = UNMASKED) -> str:
    """Return untrusted text for display: JSON is indented, any other text keeps its form."""
    try:
        if text.lstrip().startswith(("{", "[")):
            return pretty_json(masker.json(json.loads(text)))
    except (ValueError, RecursionError):
        pass
    return escape_invisible(masker.text(text))


def block(text: str) -> SafeString:
    """Return a text of any length as a block that keeps its line breaks and isolates its direction."""
    return format_html('<pre class="gateway-block" dir="auto">{}</pre>', text)


def json_block(value: Any) -> str:
    """Return JSON as a block; NOTHING for None."""
    return NOTHING if value is None else block(pretty_json(value))


def badge(text: object, tone: str) -> SafeString:
    """Return a coloured label; gateway.css defines the tones."""
    return format_html('<span class="gateway-badge gateway-{}">{}</span>', tone, text)


def status_badge(status: str) -> SafeString:
    """Return a lead's status as a coloured label."""
    return badge(str(LeadStatus(status).label), status.lower())


def stacked(text: str, note: str | None) -> str:
    """Return a text with an optional note below it."""
    return format_html('{}<div class="gateway-note">{}</div>', text, note) if note else text


def short_id(value: object) -> str:
    """Return the first eight digits of an id, with the whole id as its tooltip."""
    return NOTHING if value is None else format_html('<code title="{}">{:.8}</code>', value, str(value))
