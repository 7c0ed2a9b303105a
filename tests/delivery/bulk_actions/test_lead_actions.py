import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from delivery.bulk_actions.lead_actions import (
    ActionNotAllowed,
    SkipReason,
    enqueue,
    redeliver,
    release,
    reprocess,
    resolve,
)
from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def take(action: Any, lead_id: int, **more: Any) -> None:
    action(lead_id, actor="ann", reason="customer was down", now=NOW, **more)


@pytest.mark.parametrize("status", ["FAILED", "DELIVERED", "PERMANENTLY_FAILED"])
def test_redeliver_makes_the_lead_due_and_counts_no_earlier_attempt(status: str) -> None:
    lead = make.lead(status=status, resolved_at=NOW)
    make.attempt(lead=lead)
    make.attempt(lead=lead)

    take(redeliver, lead.pk)

    changed = InboundLead.objects.get()
    assert (changed.status, changed.next_attempt_at, changed.enqueued_at) == ("READY", NOW, None)
    assert (changed.uncounted_attempts, changed.resolved_at) == (2, None)
    assert changed.idempotency_key == lead.idempotency_key
    events = list(lead.events.order_by("id").values_list("kind", "actor", "to_status"))
    assert events == [("redelivered", "ann", None), ("status", "ann", "READY")]
    assert lead.events.earliest("id").detail == {"reason": "customer was down"}


def test_reprocess_restarts_from_the_raw_payload() -> None:
    lead = make.lead(status="REJECTED", rejection_reason="ZIP_NOT_66XXX")

    take(reprocess, lead.pk)

    changed = InboundLead.objects.get()
    assert (changed.status, changed.rejection_reason, changed.next_attempt_at) == ("RECEIVED", None, NOW)


@pytest.mark.parametrize("columns", [{"status": "PERMANENTLY_FAILED"}, {"status": "FAILED", "next_attempt_at": None}])
def test_resolve_keeps_the_status_and_records_the_reason(columns: dict[str, Any]) -> None:
    lead = make.lead(**columns)

    take(resolve, lead.pk)

    resolved = InboundLead.objects.get()
    assert (resolved.status, resolved.resolved_at, resolved.next_attempt_at) == (lead.status, NOW, None)
    event = lead.events.get()
    assert (event.kind, event.actor, event.at) == ("resolved", "ann", NOW)
    assert event.detail == {"reason": "customer was down"}


@pytest.mark.parametrize(
    ("action", "columns", "reason"),
    [
        (redeliver, {"status": "RECEIVED"}, SkipReason.IN_PROGRESS),
        (redeliver, {"status": "READY"}, SkipReason.IN_PROGRESS),
        (redeliver, {"status": "REJECTED", "customer_payload": make.customer_payload()}, SkipReason.REJECTED),
        (redeliver, {"status": "PERMANENTLY_FAILED", "customer_payload": None}, SkipReason.NO_CUSTOMER_PAYLOAD),
        (
            redeliver,
            {"status": "FAILED", "next_attempt_at": None, "rejection_reason": "MISSING_REQUIRED_FIELD"},
            SkipReason.MISSING_REQUIRED_FIELD,
        ),
        (redeliver, {"status": "FAILED", "claimed_until": NOW + timedelta(seconds=1)}, SkipReason.BEING_DELIVERED),
        (redeliver, {"status": "PERMANENTLY_FAILED", "erased_at": NOW}, SkipReason.ERASED),
        (reprocess, {"status": "READY"}, SkipReason.IN_PROGRESS),
        (reprocess, {"status": "DELIVERED"}, SkipReason.DELIVERED),
        (reprocess, {"status": "FAILED", "claimed_until": NOW + timedelta(seconds=1)}, SkipReason.BEING_DELIVERED),
        (reprocess, {"status": "PERMANENTLY_FAILED", "erased_at": NOW}, SkipReason.ERASED),
        (resolve, {"status": "DELIVERED"}, SkipReason.NO_ATTENTION_NEEDED),
        (resolve, {"status": "FAILED", "next_attempt_at": NOW}, SkipReason.NO_ATTENTION_NEEDED),
        (resolve, {"status": "PERMANENTLY_FAILED", "resolved_at": NOW}, SkipReason.NO_ATTENTION_NEEDED),
    ],
)
def test_an_action_that_is_not_allowed_changes_nothing(
    action: Any, columns: dict[str, Any], reason: SkipReason
) -> None:
    lead = make.lead(**columns)
    before = InboundLead.objects.values().get()

    with pytest.raises(ActionNotAllowed, match=f"Lead {lead.pk} ") as error:
        take(action, lead.pk)

    assert error.value.reason == reason
    assert InboundLead.objects.values().get() == before
    assert not lead.events.exists()


def test_a_delivered_lead_can_be_excluded_from_redelivery() -> None:
    lead = make.lead(status="DELIVERED")

    with pytest.raises(ActionNotAllowed, match="was already delivered"):
        take(redeliver, lead.pk, include_delivered=False)


@pytest.mark.parametrize(
    ("action", "kind"), [(redeliver, "redelivered"), (reprocess, "reprocessed"), (resolve, "resolved")]
)
def test_the_event_names_the_bulk_action(action: Any, kind: str) -> None:
    lead = make.lead(status="PERMANENTLY_FAILED")

    take(action, lead.pk, bulk_action_id=7)

    assert lead.events.get(kind=kind).detail == {"reason": "customer was down", "bulk_action": 7}


@pytest.mark.parametrize("action", [redeliver, reprocess, resolve])
def test_an_unknown_lead_is_an_error(action: Any) -> None:
    with pytest.raises(ActionNotAllowed, match="Lead 4711 does not exist"):
        take(action, 4711)


def test_release_makes_a_waiting_lead_due() -> None:
    lead = make.lead(status="FAILED", next_attempt_at=NOW + timedelta(hours=1), enqueued_at=NOW + timedelta(hours=1))

    assert release(lead.pk, now=NOW)

    assert list(InboundLead.objects.values_list("next_attempt_at", "enqueued_at")) == [(NOW, None)]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "FAILED", "next_attempt_at": None},
        {"status": "DELIVERED"},
        {"status": "READY", "claimed_until": NOW + timedelta(seconds=1)},
    ],
)
def test_release_skips_closed_and_claimed_leads(columns: dict[str, Any]) -> None:
    assert not release(make.lead(**columns).pk, now=NOW)


@pytest.mark.parametrize(("claim_token", "is_stored"), [(None, True), (uuid.uuid4(), False)])
def test_enqueue_stores_the_time_unless_a_worker_has_claimed_the_lead(
    queued_leads: Callable[[], list[int]], claim_token: uuid.UUID | None, is_stored: bool
) -> None:
    lead = make.lead(next_attempt_at=NOW, claim_token=claim_token)

    enqueue([lead.pk], now=NOW)

    lead.refresh_from_db()
    assert queued_leads() == [lead.pk]
    assert (lead.enqueued_at == NOW) is is_stored
