"""Rate and concurrency limits of the customer, for all workers together.

`DeliveryControl.next_send_at` is when the next request may be sent. Each request moves it by one interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt, DeliveryControl
from delivery.retry import retry_after

#: Maximum wait of a worker's thread for its send time. Leads that have to wait longer are put back.
MAX_WAIT = timedelta(milliseconds=500)

#: How long all leads wait after a 429: without Retry-After, and at most.
_DEFAULT_PAUSE = timedelta(seconds=1)
_MAX_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True)
class Limits:
    """At most one request per `interval`, and `concurrency` requests at a time. None and 0: no limit."""

    interval: timedelta | None = None
    concurrency: int = 0


NO_LIMITS = Limits()


def reserve_send_times(
    control: DeliveryControl, lead_ids: Sequence[int], *, limits: Limits, now: datetime
) -> dict[int, datetime]:
    """Reserve the next send times and return them by lead. The other leads have to wait. `control` is locked."""
    free = limits.concurrency - _requests_in_progress(lead_ids, now) if limits.concurrency else len(lead_ids)
    reserved: dict[int, datetime] = {}
    send_at = max(control.next_send_at or now, now)
    for lead_id in lead_ids[: max(free, 0)]:
        if send_at - now > MAX_WAIT:
            break
        reserved[lead_id] = send_at
        send_at += limits.interval or timedelta()
    if limits.interval and reserved:
        control.next_send_at = send_at
        control.save(update_fields=["next_send_at"])
    return reserved


def _requests_in_progress(lead_ids: Sequence[int], now: datetime) -> int:
    """Count the other leads that are being sent. A lead whose worker stopped counts until its lease expires."""
    sent = DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN, lead__claimed_until__gt=now).exclude(lead__in=lead_ids)
    return sent.values("lead").distinct().count()


def slow_down(control: DeliveryControl, header: str | None, *, now: datetime) -> None:
    """Make all leads wait after a 429, which limits us and not one lead. `control` is locked.

    One response must not stop delivery for an hour, so the wait has a maximum; the customer can send 429 again.

    :param header: the Retry-After header.
    """
    asked = retry_after(header, now=now)
    until = now + min(_DEFAULT_PAUSE if asked is None else asked, _MAX_PAUSE)
    if control.next_send_at is None or control.next_send_at < until:
        control.next_send_at = until
        control.save(update_fields=["next_send_at"])


def enqueue_delays(
    control: DeliveryControl, limits: Limits, *, now: datetime, window: timedelta, most: int
) -> list[timedelta]:
    """Return the delays of the messages to enqueue now: one for each lead that can be sent before `window` has passed.

    :param most: the maximum number of messages.
    """
    start = max((control.next_send_at or now) - now, timedelta())
    if start >= window:
        return []
    if limits.interval:
        count = min(ceil((window - start) / limits.interval), most)
        return [start + number * limits.interval for number in range(count)]
    return [start] * min(limits.concurrency or most, most)
