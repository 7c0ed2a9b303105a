"""Holding delivery by hand: nothing is sent, everything is accepted and checked, until somebody resumes."""

from datetime import datetime

from django.db import transaction

from delivery.models import DeliveryGate
from leadgateway.logging import get_logger
from leads.lifecycle import record_of_many
from leads.models import EventKind

log = get_logger(__name__)


def hold(*, actor: str, reason: str, at: datetime) -> bool:
    """Send nothing from now on; requests that have left are finished. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryGate.objects.locked()
        if gate.held_at is not None:
            return False
        gate.held_at, gate.held_by, gate.held_reason = at, actor, reason
        gate.save(update_fields=["held_at", "held_by", "held_reason"])
        record_of_many(EventKind.DELIVERY_HELD, actor=actor, at=at, detail={"reason": reason})
    log.warning("delivery_held", actor=actor)
    return True


def resume(*, actor: str, reason: str | None = None, at: datetime) -> bool:
    """Send again; the sweep rings for what waited. Tell whether that changed anything."""
    with transaction.atomic():
        gate = DeliveryGate.objects.locked()
        if gate.held_at is None:
            return False
        held_s = round((at - gate.held_at).total_seconds())
        gate.held_at = gate.held_by = gate.held_reason = None
        gate.save(update_fields=["held_at", "held_by", "held_reason"])
        detail = {"held_s": held_s, **({"reason": reason} if reason else {})}
        record_of_many(EventKind.DELIVERY_RESUMED, actor=actor, at=at, detail=detail)
    log.warning("delivery_resumed", actor=actor, held_s=held_s)
    return True
