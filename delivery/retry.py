"""The retry schedule: pure functions of the customer's response."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.utils.http import parse_http_date

MAX_DELAY = timedelta(hours=24)
MAX_RETRY_AFTER = timedelta(hours=1)

_MICROSECOND = timedelta(microseconds=1)
# Even one microsecond reaches any maximum after 64 doublings. Larger powers only need memory.
_MAX_DOUBLINGS = 64

_SECONDS = re.compile(r"-?[0-9]+")


class ResponseClass(StrEnum):
    """The meaning of the customer's response for the lead."""

    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    PERMANENT = "PERMANENT"


class GiveUp(StrEnum):
    """Why a lead is not sent again. The values are codes of `stats.text.reasons`."""

    REJECTED = "rejected_by_customer"
    EXHAUSTED = "attempts_exhausted"


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
        return doubled(self.base, failures - 1, longest=MAX_DELAY)

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
    try:
        # float, because int refuses thousands of digits.
        delay_s = float(text) if _SECONDS.fullmatch(text) else parse_http_date(text) - now.timestamp()
    except ValueError:
        return None
    return timedelta(seconds=min(max(delay_s, 0), MAX_RETRY_AFTER.total_seconds()))


def after_failure(
    policy: RetryPolicy, status: int | None, failures: int, header: str | None, *, now: datetime
) -> timedelta | GiveUp:
    """Decide what follows a failed attempt.

    :param failures: number of failed attempts that the schedule counts, including this one.
    :param header: the customer's Retry-After header.
    :returns: the wait before the next attempt: the schedule's, or Retry-After when that is longer. Otherwise the
        reason to give up.
    """
    if classify_response(status) is ResponseClass.PERMANENT:
        return GiveUp.REJECTED
    if policy.exhausted(failures):
        return GiveUp.EXHAUSTED
    return max(policy.delay_after(max(failures, 1)), retry_after(header, now=now) or timedelta(0))


def doubled(base: timedelta, times: int, *, longest: timedelta) -> timedelta:
    """Return `base`, doubled a number of times, but at most `longest`."""
    # In microseconds, because an int does not overflow as a timedelta does.
    delay = (base // _MICROSECOND) * 2 ** min(times, _MAX_DOUBLINGS)
    return timedelta(microseconds=min(delay, longest // _MICROSECOND))
