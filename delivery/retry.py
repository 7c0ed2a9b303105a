"""The retry schedule: pure functions of the customer's response."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from django.utils.http import parse_http_date

MAX_DELAY = timedelta(hours=24)
MAX_RETRY_AFTER = timedelta(hours=1)

_MICROSECOND = timedelta(microseconds=1)
# Even a base of one microsecond reaches MAX_DELAY after 64 doublings. Larger powers only need memory.
_MAX_DOUBLINGS = 64

_SECONDS = re.compile(r"-?[0-9]+")


class ResponseClass(StrEnum):
    """The meaning of the customer's response for the lead."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    PERMANENT = "PERMANENT"


@dataclass(frozen=True)
class RetryPolicy:
    """The maximum number of attempts, and the wait after the first failure."""

    max_attempts: int
    base: timedelta

    def delay_after(self, failures: int) -> timedelta:
        """Return the wait after a number of failures: the base, doubled for each failure after the first.

        With a base of 30 s that is 30, 60, 120 and 240 s. Without a failure it is zero; the maximum is 24 hours.
        """
        if failures < 1:
            return timedelta(0)
        # In microseconds, because an int does not overflow as a timedelta does.
        delay = (self.base // _MICROSECOND) * 2 ** min(failures - 1, _MAX_DOUBLINGS)
        return timedelta(microseconds=min(delay, MAX_DELAY // _MICROSECOND))

    def exhausted(self, attempts: int) -> bool:
        """Return whether no attempt is left after this number of attempts."""
        return attempts >= self.max_attempts


def classify_response(status: int | None) -> ResponseClass:
    """Classify an HTTP status. None stands for a network error or a timeout.

    Only 429, 5xx and network errors are retried. A redirect is not followed and 1xx is no final response, so both are
    permanent, as any other 4xx is.
    """
    if status is None or status == 429 or 500 <= status <= 599:
        return ResponseClass.RETRY
    if 200 <= status <= 299:
        return ResponseClass.DELIVERED
    return ResponseClass.PERMANENT


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """Parse a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date relative to `now`, which is aware.

    :returns: at least zero and at most one hour; None when the header is absent or invalid.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return _bounded(_seconds(text))
    try:
        date = datetime.fromtimestamp(parse_http_date(text), tz=UTC)
    except ValueError:
        return None
    return _bounded(date - now)


def next_delay(policy: RetryPolicy, failures: int, header: str | None, now: datetime) -> timedelta:
    """Return the wait before the next attempt: the schedule's, or the customer's Retry-After when that is longer."""
    asked = retry_after(header, now=now) or timedelta(0)
    return max(policy.delay_after(failures), asked)


def _bounded(delay: timedelta) -> timedelta:
    return min(max(delay, timedelta(0)), MAX_RETRY_AFTER)


def _seconds(text: str) -> timedelta:
    if text.startswith("-"):
        return timedelta(0)
    digits = text.lstrip("0")
    # More digits than a timedelta can hold.
    return timedelta(seconds=int(digits or "0")) if len(digits) <= 9 else MAX_RETRY_AFTER
