"""The gate on the way out: whether a lead may leave now, decided in one row of the database for all workers."""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from delivery.control.circuit import CircuitPolicy, take_probe
from delivery.control.limits import Limits, reserve_send_time
from delivery.models import DeliveryControl
from leadgateway.time_format import declined_span, timestamp
from leads.models import InboundLead


def send_time(
    lead_id: int, *, circuit: CircuitPolicy, limits: Limits, timeout: timedelta, now: datetime
) -> datetime | None:
    """Return when the lead's request may leave, now or in a moment; None: it has to wait.

    On a good day without limits this costs one SELECT. Otherwise it locks the row until the end of the caller's
    transaction, in which the attempt is written.
    """
    if not limits.exist and DeliveryControl.objects.is_unrestricted():
        return now
    gate = DeliveryControl.objects.locked()
    if gate.paused_at is not None:
        return None
    if gate.circuit_opened_at is not None:
        return now if take_probe(gate, policy=circuit, timeout=timeout, now=now) else None
    return reserve_send_time(gate, lead_id, limits=limits, now=now)


def waiting(now: datetime) -> int:
    """Count the leads that would go out at `at` if the gate let them; for metrics and for people."""
    return InboundLead.objects.due(now).count()


def obstacle(gate: DeliveryControl, *, now: datetime, show_time: Callable[[datetime], str] = timestamp) -> str | None:
    """Say in a sentence why leads wait; None when nothing keeps them."""
    if gate.paused_at is not None:
        told = {"since": show_time(gate.paused_at), "who": gate.paused_by, "why": gate.pause_reason}
        return _("Delivery is held since {since} by {who}: {why}.").format(**told)
    if gate.circuit_opened_at is None or gate.next_probe_at is None:
        return None
    since = show_time(gate.circuit_opened_at)
    if gate.next_probe_at <= now:
        return _("The customer is down since {since}; the next lead tries whether it is back.").format(since=since)
    wait = declined_span(gate.next_probe_at - now)
    return _("The customer is down since {since}; in {wait} a lead tries whether it is back.").format(
        since=since, wait=wait
    )
