from typing import Any

import pytest
from django.utils import timezone

from delivery.bulk_actions.processing import process_pending
from delivery.bulk_actions.selection import eligibility
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leads.models import InboundLead
from tests import make
from tests.delivery.bulk_actions.builders import NOW, outcomes

pytestmark = pytest.mark.django_db

REDELIVER, REPROCESS, RESOLVE = BulkActionKind.REDELIVER, BulkActionKind.REPROCESS, BulkActionKind.RESOLVE

LEADS: dict[str, dict[str, Any]] = {
    "received": {"status": "RECEIVED"},
    "ready": {"status": "READY"},
    "rejected": {"status": "REJECTED"},
    "waiting": {"status": "FAILED"},
    "incomplete": {"status": "FAILED", "next_attempt_at": None, "rejection_reason": "MISSING_REQUIRED_FIELD"},
    "failed": {"status": "PERMANENTLY_FAILED"},
    "unmapped": {"status": "PERMANENTLY_FAILED", "customer_payload": None},
    "resolved": {"status": "PERMANENTLY_FAILED", "resolved_at": NOW},
    "delivered": {"status": "DELIVERED"},
    "erased": {"status": "PERMANENTLY_FAILED", "customer_payload": None, "resolved_at": NOW, "erased_at": NOW},
}


@pytest.mark.parametrize(
    ("kind", "include_delivered", "names"),
    [
        (REDELIVER, False, {"waiting", "failed", "resolved"}),
        (REDELIVER, True, {"waiting", "failed", "resolved", "delivered"}),
        (REPROCESS, False, {"rejected", "waiting", "incomplete", "failed", "unmapped", "resolved"}),
        (RESOLVE, False, {"incomplete", "failed", "unmapped"}),
    ],
)
def test_processing_changes_exactly_the_eligible_leads(
    kind: BulkActionKind, include_delivered: bool, names: set[str]
) -> None:
    leads = {name: make.lead(**columns).pk for name, columns in LEADS.items()}
    eligible = InboundLead.objects.filter(eligibility(kind, include_delivered=include_delivered))
    assert set(eligible.values_list("pk", flat=True)) == {leads[name] for name in names}

    action = BulkAction.objects.create(
        kind=kind, actor="ann", reason="why", include_delivered=include_delivered, created_at=NOW, total=len(leads)
    )
    BulkActionItem.objects.bulk_create(BulkActionItem(bulk_action=action, lead_id=pk) for pk in leads.values())
    process_pending(now=timezone.now(), max_leads=100)

    assert dict(zip(leads, outcomes(action), strict=True)) == {
        name: "done" if name in names else "skipped" for name in LEADS
    }
