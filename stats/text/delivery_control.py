"""Delivery control in words: why no lead is sent to the customer."""

from collections.abc import Callable
from datetime import datetime

from django.utils.translation import gettext as _

from delivery.models import DeliveryControl
from leadgateway.time_format import declined_span, timestamp


def obstacle(
    control: DeliveryControl, *, now: datetime, show_time: Callable[[datetime], str] = timestamp
) -> str | None:
    """Return a sentence that says why leads wait; None when leads are sent."""
    if control.paused_at is not None:
        return _("Delivery paused by {actor} at {time}: {reason}.").format(
            actor=control.paused_by, time=show_time(control.paused_at), reason=control.pause_reason
        )
    if control.circuit_opened_at is None or control.next_probe_at is None:
        return None
    since = show_time(control.circuit_opened_at)
    if control.next_probe_at <= now:
        return _("Customer marked as down since {since}; the next lead checks whether it has recovered.").format(
            since=since
        )
    wait = declined_span(control.next_probe_at - now)
    return _("Customer marked as down since {since}; next recovery check in {wait}.").format(since=since, wait=wait)
