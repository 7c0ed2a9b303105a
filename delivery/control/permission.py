"""Decide when a lead may be sent. All workers share one row of the database, see `DeliveryControl`."""

from datetime import datetime, timedelta

from delivery.control.circuit import CircuitPolicy, take_probe
from delivery.control.limits import Limits, reserve_send_time
from delivery.models import DeliveryControl


def send_time(
    lead_id: int, *, circuit: CircuitPolicy, limits: Limits, timeout: timedelta, now: datetime
) -> datetime | None:
    """Return when the lead's request may be sent: now or very soon. None: the lead has to wait.

    Locks the row until the end of the caller's transaction, in which the attempt is stored.

    :param timeout: the longest that a request can take.
    """
    control = DeliveryControl.objects.locked()
    if control.paused_at is not None:
        return None
    if control.circuit_opened_at is not None:
        return now if take_probe(control, policy=circuit, timeout=timeout, now=now) else None
    return reserve_send_time(control, lead_id, limits=limits, now=now)
