"""Say why leads are not sent at the moment."""

from delivery.models import DeliveryControl
from leadgateway.time_format import timestamp


def why_leads_wait() -> str | None:
    """Return why leads are not sent at the moment as a sentence; None if they are sent."""
    control = DeliveryControl.objects.current()
    if control.paused_at is not None:
        since = timestamp(control.paused_at)
        return f"Delivery has been paused by {control.paused_by} since {since}: {control.pause_reason}."
    if control.circuit_opened_at is not None:
        since = timestamp(control.circuit_opened_at)
        return f"The customer has been marked as down since {since}. Recovery is checked automatically."
    return None
