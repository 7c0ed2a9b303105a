from datetime import timedelta

import pytest
from django.utils import timezone

from delivery.bulk_actions.lead_actions import ActionRefused, redeliver, release, reprocess, resolve
from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def order(what, lead_id):
    what(lead_id, actor="ann", reason="customer was down", now=NOW)


@pytest.mark.parametrize("status", ["FAILED", "DELIVERED", "PERMANENTLY_FAILED"])
def test_a_redelivery_makes_the_lead_due_with_all_its_attempts(status):
    lead = make.lead(status=status)
    make.attempt(lead=lead)
    make.attempt(lead=lead)

    order(redeliver, lead.pk)

    ordered = InboundLead.objects.get()
    assert (ordered.status, ordered.next_attempt_at, ordered.enqueued_at, ordered.uncounted_attempts) == (
        "READY",
        NOW,
        None,
        2,
    )
    assert ordered.idempotency_key == lead.idempotency_key
    events = list(lead.events.order_by("id").values_list("kind", "actor", "to_status"))
    assert events == [("redelivered", "ann", None), ("status", "ann", "READY")]
    assert lead.events.earliest("id").detail == {"reason": "customer was down"}


@pytest.mark.parametrize("status", ["REJECTED", "FAILED", "PERMANENTLY_FAILED"])
def test_reprocessing_starts_over_from_the_raw_payload(status):
    lead = make.lead(status=status, rejection_reason="ZIP_NOT_66XXX")

    order(reprocess, lead.pk)

    ordered = InboundLead.objects.get()
    assert (ordered.status, ordered.rejection_reason, ordered.next_attempt_at) == ("RECEIVED", None, NOW)


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        (redeliver, {"status": "RECEIVED"}),
        (redeliver, {"status": "READY"}),
        (redeliver, {"status": "REJECTED"}),
        (redeliver, {"status": "PERMANENTLY_FAILED", "customer_payload": None}),
        (redeliver, {"status": "FAILED", "next_attempt_at": None, "rejection_reason": "MISSING_REQUIRED_FIELD"}),
        (redeliver, {"status": "FAILED", "claimed_until": NOW + timedelta(seconds=1)}),
        (reprocess, {"status": "RECEIVED"}),
        (reprocess, {"status": "READY"}),
        (reprocess, {"status": "DELIVERED"}),
        (reprocess, {"status": "FAILED", "claimed_until": NOW + timedelta(seconds=1)}),
        (resolve, {"status": "READY"}),
        (resolve, {"status": "REJECTED"}),
        (resolve, {"status": "DELIVERED"}),
        (resolve, {"status": "FAILED", "next_attempt_at": NOW}),
        (resolve, {"status": "PERMANENTLY_FAILED", "resolved_at": NOW - timedelta(days=1)}),
    ],
)
def test_an_order_that_does_not_fit_changes_nothing(what, columns):
    lead = make.lead(**columns)
    before = InboundLead.objects.values().get()

    with pytest.raises(ActionRefused, match=str(lead.pk)):
        order(what, lead.pk)

    assert InboundLead.objects.values().get() == before
    assert not lead.events.exists()


@pytest.mark.parametrize("what", [redeliver, reprocess, resolve])
def test_an_unknown_lead_is_refused(what):
    with pytest.raises(ActionRefused, match="no lead 4711"):
        order(what, 4711)


@pytest.mark.parametrize("columns", [{"status": "PERMANENTLY_FAILED"}, {"status": "FAILED", "next_attempt_at": None}])
def test_a_settled_lead_keeps_its_status_and_has_the_note_in_its_trail(columns):
    lead = make.lead(**columns)

    order(resolve, lead.pk)

    settled = InboundLead.objects.get()
    assert (settled.status, settled.resolved_at, settled.next_attempt_at) == (lead.status, NOW, None)
    event = lead.events.get()
    assert (event.kind, event.actor, event.at, event.detail) == (
        "resolved",
        "ann",
        NOW,
        {"reason": "customer was down"},
    )


def test_a_lead_that_goes_out_again_is_not_settled_any_more():
    lead = make.lead(status="PERMANENTLY_FAILED", resolved_at=NOW)

    order(redeliver, lead.pk)

    assert InboundLead.objects.get().resolved_at is None


@pytest.mark.parametrize(
    ("what", "kind"), [(redeliver, "redelivered"), (reprocess, "reprocessed"), (resolve, "resolved")]
)
def test_the_event_names_the_order_that_it_belongs_to(what, kind):
    lead = make.lead(status="PERMANENTLY_FAILED")

    what(lead.pk, actor="ann", reason="customer was down", now=NOW, bulk_action=7)

    assert lead.events.get(kind=kind).detail == {"reason": "customer was down", "bulk_action": 7}


def test_a_delivered_lead_is_kept_from_the_customer_when_asked_to():
    lead = make.lead(status="DELIVERED")

    with pytest.raises(ActionRefused, match="was delivered already"):
        redeliver(lead.pk, actor="ann", reason="customer was down", now=NOW, include_delivered=False)

    assert InboundLead.objects.get().status == "DELIVERED"
    assert not lead.events.exists()


def test_a_waiting_lead_can_be_released():
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
def test_what_is_at_rest_or_in_a_workers_hands_cannot_be_released(columns):
    lead = make.lead(**columns)

    assert not release(lead.pk, now=NOW)
