"""Pause and resume delivery by hand. While delivery is paused, leads are accepted and checked but not sent."""

from datetime import datetime

from django.db import transaction

from delivery.models import DeliveryControl
from leadgateway.logging import get_logger
from leads.audit.recording import record_system_event
from leads.models import EventKind

log = get_logger(__name__)


def pause_delivery(*, actor: str, reason: str, now: datetime) -> bool:
    """Pause delivery; requests in progress are completed. Return False when it is paused already."""
    with transaction.atomic():
        control = DeliveryControl.objects.locked()
        if control.paused_at is not None:
            return False
        control.paused_at, control.paused_by, control.pause_reason = now, actor, reason
        control.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        record_system_event(EventKind.DELIVERY_PAUSED, actor=actor, now=now, detail={"reason": reason})
    log.warning("delivery_paused", actor=actor)
    return True


def resume_delivery(*, actor: str, reason: str | None = None, now: datetime) -> bool:
    """Resume delivery; the sweep enqueues the leads that waited. Return False when it is not paused."""
    with transaction.atomic():
        control = DeliveryControl.objects.locked()
        if control.paused_at is None:
            return False
        paused_s = round((now - control.paused_at).total_seconds())
        control.paused_at = control.paused_by = control.pause_reason = None
        control.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        detail = {"paused_s": paused_s, **({"reason": reason} if reason else {})}
        record_system_event(EventKind.DELIVERY_RESUMED, actor=actor, now=now, detail=detail)
    log.warning("delivery_resumed", actor=actor, paused_s=paused_s)
    return True
