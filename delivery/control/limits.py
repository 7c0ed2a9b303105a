"""What the customer can take: requests in a second or minute, and at a time, of all workers together.

One column is the pace: `next_send_at`, before which no request leaves. Whoever takes a turn moves it on by one interval.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt, DeliveryControl
from delivery.retry import retry_after

#: How far ahead a turn may be taken: a worker's thread sleeps so long at most. Others are put back.
MAX_WAIT = timedelta(milliseconds=500)

#: How long all leads wait when the customer says "too many requests": so long if it does not say, and no longer.
_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True)
class Limits:
    """At most one request in each `interval`, and `concurrency` at a time; None and 0: no limit."""

    interval: timedelta | None = None
    concurrency: int = 0

    @property
    def exist(self) -> bool:
        """Tell whether there is any."""
        return bool(self.interval or self.concurrency)


NO_LIMITS = Limits()


def reserve_send_time(gate: DeliveryControl, lead_id: int, *, limits: Limits, now: datetime) -> datetime | None:
    """Take the next turn and return when it is, very soon; None: there is none to be had. `gate` is locked."""
    turn = max(gate.next_send_at or now, now)
    if turn - now > MAX_WAIT or (limits.concurrency and _under_way(lead_id, now) >= limits.concurrency):
        return None
    if limits.interval:
        gate.next_send_at = turn + limits.interval
        gate.save(update_fields=["next_send_at"])
    return turn


def _under_way(lead_id: int, now: datetime) -> int:
    """Count the other leads that a worker is sending. One that died has its place until its lease ends."""
    sent = DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN, lead__claimed_until__gt=now).exclude(lead=lead_id)
    return sent.values("lead").distinct().count()


def slow_down(gate: DeliveryControl, header: str | None, *, now: datetime) -> None:
    """Let all leads wait as long as the customer asked one to: the limit is on us, not on the lead. `gate` is locked.

    Bounded, as one answer should not stop everything for an hour; who means longer says so again.
    """
    pause = retry_after(header, now=now)
    until = now + min(_PAUSE if pause is None else pause, _LONGEST_PAUSE)
    if gate.next_send_at is None or gate.next_send_at < until:
        gate.next_send_at = until
        gate.save(update_fields=["next_send_at"])


def queued_leads(
    gate: DeliveryControl, limits: Limits, *, now: datetime, window: timedelta, most: int
) -> list[timedelta]:
    """Return after which waits to ring for leads that are due, until `window` has passed: no more than can go."""
    start = max((gate.next_send_at or now) - now, timedelta())
    if start >= window:
        return []
    if limits.interval:
        count = min(ceil((window - start) / limits.interval), most)
        return [start + number * limits.interval for number in range(count)]
    return [start] * min(limits.concurrency or most, most)
