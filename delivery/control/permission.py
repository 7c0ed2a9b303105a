"""Decide when leads may be sent. All workers share one row of the database, see `DeliveryControl`."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from delivery.control.circuit import CircuitPolicy, take_probe
from delivery.control.limits import Limits, reserve_send_times
from delivery.models import DeliveryControl


def send_times(
    lead_ids: Sequence[int], *, circuit: CircuitPolicy, limits: Limits, timeout: timedelta, now: datetime
) -> dict[int, datetime]:
    """Return when the request of each lead may be sent: now or very soon. The other leads have to wait.

    Locks the row until the end of the caller's transaction, in which the attempts are stored.

    :param timeout: the longest that a request can take.
    """
    control = DeliveryControl.objects.locked()
    if control.paused_at is not None:
        return {}
    if control.circuit_opened_at is not None:
        return {
            lead_id: now for lead_id in lead_ids[:1] if take_probe(control, policy=circuit, timeout=timeout, now=now)
        }
    return reserve_send_times(control, lead_ids, limits=limits, now=now)
