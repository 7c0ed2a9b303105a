"""Builders for the tests of bulk actions."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from delivery.bulk_actions.creation import BulkActionRequest, create
from delivery.models import BulkAction, BulkActionKind
from leads.models import EventKind, InboundLead, LeadEvent
from tests import make

NOW = timezone.now()


def failed_leads(number: int) -> list[InboundLead]:
    return [make.lead(status="PERMANENTLY_FAILED") for _ in range(number)]


def request(kind: BulkActionKind = BulkActionKind.REDELIVER, **more: Any) -> BulkActionRequest:
    return BulkActionRequest(kind=kind, actor="ann", reason="customer was down", selection="all leads", **more)


def bulk_action(kind: BulkActionKind = BulkActionKind.REDELIVER, **more: Any) -> BulkAction:
    """Create a bulk action for all eligible leads."""
    return create(request(kind, **more), InboundLead.objects.all(), now=NOW)


def stored(action: BulkAction) -> BulkAction:
    return BulkAction.objects.get(pk=action.pk)


def outcomes(action: BulkAction) -> list[str | None]:
    return list(action.items.order_by("pk").values_list("outcome", flat=True))


def redelivered() -> list[int | None]:
    """Return the leads of all recorded redeliveries, oldest first."""
    events = LeadEvent.objects.filter(kind=EventKind.REDELIVERED).order_by("pk")
    return list(events.values_list("lead_id", flat=True))


def later(**parts: float) -> datetime:
    return timezone.now() + timedelta(**parts)
