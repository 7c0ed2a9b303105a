"""Holding delivery by hand: nothing is sent, everything is accepted and checked, until somebody resumes."""

from datetime import datetime

from django.db import transaction

from delivery.models import DeliveryControl
from leadgateway.logging import get_logger
from leads.models import EventKind
from leads.status import record_system_event

log = get_logger(__name__)


def hold(*, actor: str, reason: str, at: datetime) -> bool:
    """Send nothing from now on; requests that have left are finished. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryControl.objects.locked()
        if gate.paused_at is not None:
            return False
        gate.paused_at, gate.paused_by, gate.pause_reason = at, actor, reason
        gate.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        record_system_event(EventKind.DELIVERY_PAUSED, actor=actor, at=at, detail={"reason": reason})
    log.warning("delivery_paused", actor=actor)
    return True


def resume(*, actor: str, reason: str | None = None, at: datetime) -> bool:
    """Send again; the sweep rings for what waited. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryControl.objects.locked()
        if gate.paused_at is None:
            return False
        paused_s = round((at - gate.paused_at).total_seconds())
        gate.paused_at = gate.paused_by = gate.pause_reason = None
        gate.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        detail = {"paused_s": paused_s, **({"reason": reason} if reason else {})}
        record_system_event(EventKind.DELIVERY_RESUMED, actor=actor, at=at, detail=detail)
    log.warning("delivery_resumed", actor=actor, paused_s=paused_s)
    return True
