"""Moments and spans of time as they are shown."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.utils.translation import ngettext, npgettext

_UNITS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def timestamp(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 in UTC, whole seconds, such as `2026-01-21T10:30:00Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units, such as `42 s`, `3 min 20 s` or `2 days 4 h`."""
    return _in_units(length, _days)


def declined_span(length: timedelta) -> str:
    """Return the same as it stands in `in 2 days` and `2 days ago`, where other languages have another ending."""
    return _in_units(length, _declined_days)


def _in_units(length: timedelta, days: Callable[[int], str]) -> str:
    seconds = max(0, round(length.total_seconds()))
    for (unit, size), (smaller, smaller_size) in pairwise(_UNITS):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            less = rest // smaller_size
            most = days(whole) if unit == "day" else f"{whole} {unit}"
            return most + (f" {less} {smaller}" if less else "")
    return f"{seconds} s"


def _days(number: int) -> str:
    return ngettext("{number} day", "{number} days", number).format(number=number)


def _declined_days(number: int) -> str:
    return npgettext("in or ago", "{number} day", "{number} days", number).format(number=number)
