"""Format times and durations for people."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.utils.translation import ngettext, npgettext

_UNITS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def timestamp(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with whole seconds, such as `2026-01-21T10:30:00Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def span(length: timedelta) -> str:
    """Return a duration in its two largest units, such as `42 s`, `3 min 20 s` or `2 days 4 h`."""
    return _in_units(length, _days)


def declined_span(length: timedelta) -> str:
    """Return the same in the form for `in 2 days` and `2 days ago`, which other languages inflect differently."""
    return _in_units(length, _declined_days)


def _in_units(length: timedelta, days: Callable[[int], str]) -> str:
    seconds = max(0, round(length.total_seconds()))
    for (unit, size), (smaller, smaller_size) in pairwise(_UNITS):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            remainder = rest // smaller_size
            text = days(whole) if unit == "day" else f"{whole} {unit}"
            return text + (f" {remainder} {smaller}" if remainder else "")
    return f"{seconds} s"


def _days(number: int) -> str:
    return ngettext("{number} day", "{number} days", number).format(number=number)


def _declined_days(number: int) -> str:
    return npgettext("in or ago", "{number} day", "{number} days", number).format(number=number)
