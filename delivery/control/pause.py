"""Holding delivery by hand: nothing is sent, everything is accepted and checked, until somebody resumes."""

from datetime import datetime

from django.db import transaction

from delivery.models import DeliveryControl
from leadgateway.logging import get_logger
from leads.audit.recording import record_system_event
from leads.models import EventKind

log = get_logger(__name__)


def pause_delivery(*, actor: str, reason: str, now: datetime) -> bool:
    """Send nothing from now on; requests that have left are finished. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryControl.objects.locked()
        if gate.paused_at is not None:
            return False
        gate.paused_at, gate.paused_by, gate.pause_reason = now, actor, reason
        gate.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        record_system_event(EventKind.DELIVERY_PAUSED, actor=actor, now=now, detail={"reason": reason})
    log.warning("delivery_paused", actor=actor)
    return True


def resume_delivery(*, actor: str, reason: str | None = None, now: datetime) -> bool:
    """Send again; the sweep rings for what waited. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryControl.objects.locked()
        if gate.paused_at is None:
            return False
        paused_s = round((now - gate.paused_at).total_seconds())
        gate.paused_at = gate.paused_by = gate.pause_reason = None
        gate.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        detail = {"paused_s": paused_s, **({"reason": reason} if reason else {})}
        record_system_event(EventKind.DELIVERY_RESUMED, actor=actor, now=now, detail=detail)
    log.warning("delivery_resumed", actor=actor, paused_s=paused_s)
    return True
