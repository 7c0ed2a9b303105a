"""When a delivery is tried again: pure arithmetic on what the customer answered."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

MAX_DELAY = timedelta(hours=24)
MAX_RETRY_AFTER = timedelta(hours=1)

_MICROSECOND = timedelta(microseconds=1)
# From here on even a base of one microsecond has long passed MAX_DELAY, and larger powers only cost memory.
_MAX_DOUBLINGS = 64

_SECONDS = re.compile(r"-?[0-9]+")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# The three forms of RFC 9110, section 5.6.7. `strptime` would read them in the language of the locale.
_HTTP_DATES = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


class ResponseClass(StrEnum):
    """What an answer of the customer means for the lead."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    PERMANENT = "PERMANENT"


@dataclass(frozen=True)
class RetryPolicy:
    """How often a delivery is tried, and how long we wait after the first failure."""

    max_attempts: int
    base: timedelta

    def delay_after(self, failures: int) -> timedelta:
        """Return the wait after so many failures: base, doubled for each failure after the first.

        With a base of 30 s that is 30, 60, 120 and 240 s. No wait without a failure, and never more than 24 hours.
        """
        if failures < 1:
            return timedelta(0)
        # In whole microseconds, because a timedelta overflows where an int does not.
        delay = (self.base // _MICROSECOND) * 2 ** min(failures - 1, _MAX_DOUBLINGS)
        return timedelta(microseconds=min(delay, MAX_DELAY // _MICROSECOND))

    def exhausted(self, attempts: int) -> bool:
        """Tell whether no attempt is left after so many."""
        return attempts >= self.max_attempts


def classify_response(status: int | None) -> ResponseClass:
    """Judge an HTTP status; None stands for a network error or a time-out.

    Redirects are not followed and 1xx is no answer, so both are as final as a 4xx. Only 429 and 5xx ask us back.
    """
    if status is None or status == 429 or 500 <= status <= 599:
        return ResponseClass.RETRY
    if 200 <= status <= 299:
        return ResponseClass.DELIVERED
    return ResponseClass.PERMANENT


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date seen from `now`, which is aware.

    None when it is absent or unreadable. What lies in the past is zero, and nothing is longer than one hour.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return _bounded(_seconds(text))
    date = _http_date(text, now=now)
    return None if date is None else _bounded(date - now)


def next_delay(policy: RetryPolicy, failures: int, header: str | None, now: datetime) -> timedelta:
    """Return the wait before the next attempt: the schedule, or the customer's Retry-After when that is later."""
    asked = retry_after(header, now=now) or timedelta(0)
    return max(policy.delay_after(failures), asked)


def _bounded(delay: timedelta) -> timedelta:
    return min(max(delay, timedelta(0)), MAX_RETRY_AFTER)


def _seconds(text: str) -> timedelta:
    if text.startswith("-"):
        return timedelta(0)
    digits = text.lstrip("0")
    # Longer ones are past the bound anyway, and a long enough one no int or timedelta would take.
    return timedelta(seconds=int(digits or "0")) if len(digits) <= 9 else MAX_RETRY_AFTER


def _http_date(text: str, *, now: datetime) -> datetime | None:
    match = next((match for form in _HTTP_DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    month = _MONTHS.index(match["month"]) + 1
    try:
        # A leap second is legal in the header and unknown to datetime.
        return datetime(_full_year(match["year"], now=now), month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None


def _full_year(year: str, *, now: datetime) -> int:
    """Complete a two-digit year: this century's, unless that is more than 50 years ahead (RFC 9110, 5.6.7)."""
    if len(year) == 4:
        return int(year)
    full = now.year - now.year % 100 + int(year)
    return full - 100 if full > now.year + 50 else full
