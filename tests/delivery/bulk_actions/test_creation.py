import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery.bulk_actions import creation
from delivery.bulk_actions.creation import AlreadyCreated, NoLeads, TooManyLeads, cancel, create
from delivery.bulk_actions.processing import process_pending
from delivery.models import BulkAction, BulkActionItem
from leads.models import InboundLead, LeadEvent
from tests import make
from tests.background import run_at_once
from tests.delivery.bulk_actions.builders import NOW, bulk_action, failed_leads, later, redelivered, request, stored

pytestmark = pytest.mark.django_db


def test_creation_stores_the_leads_and_an_event_and_changes_no_lead(queued_leads: Callable[[], list[int]]) -> None:
    leads = failed_leads(3)
    before = list(InboundLead.objects.order_by("pk").values())

    action = bulk_action()

    assert list(action.items.order_by("pk").values_list("lead", flat=True)) == [lead.pk for lead in leads]
    assert (stored(action).total, stored(action).created_at, stored(action).is_open) == (3, NOW, True)
    event = LeadEvent.objects.get()
    assert (event.kind, event.actor, event.at) == ("bulk_action_created", "ann", NOW)
    assert (event.lead_id, event.correlation_id) == (None, None)
    assert event.detail == {
        "bulk_action": action.pk,
        "kind": "redeliver",
        "leads": 3,
        "reason": "customer was down",
        "selection": "all leads",
    }
    assert list(InboundLead.objects.order_by("pk").values()) == before
    assert queued_leads() == []


@pytest.mark.parametrize("selected", [InboundLead.objects.all, InboundLead.objects.none])
def test_nothing_is_created_for_no_eligible_lead(selected: Callable[[], Any]) -> None:
    make.lead(status="DELIVERED")

    with pytest.raises(NoLeads):
        create(request(), selected(), now=NOW)

    assert not BulkAction.objects.exists()
    assert not LeadEvent.objects.exists()


@pytest.mark.parametrize(("confirmed", "maximum"), [(2, 1000), (1000, 2)])
def test_nothing_is_created_for_too_many_leads(monkeypatch: pytest.MonkeyPatch, confirmed: int, maximum: int) -> None:
    monkeypatch.setattr(creation, "MAX_LEADS", maximum)
    failed_leads(3)

    with pytest.raises(TooManyLeads):
        create(request(), InboundLead.objects.all(), now=NOW, max_leads=confirmed)

    assert not BulkAction.objects.exists()
    assert not BulkActionItem.objects.exists()
    assert not LeadEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_form_submitted_several_times_creates_one_bulk_action() -> None:
    failed_leads(2)
    token, results = uuid.uuid4(), []

    def submit() -> None:
        try:
            results.append(bulk_action(form_token=token))
        except AlreadyCreated as error:
            results.append(error.bulk_action)

    run_at_once(*[submit] * 6)

    assert results == [BulkAction.objects.get()] * 6
    assert LeadEvent.objects.count() == 1
    assert bulk_action(form_token=uuid.uuid4()) not in results


def test_the_number_of_queries_does_not_depend_on_the_number_of_leads(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    failed_leads(1)
    with django_assert_num_queries(6):  # savepoint and release, bulk action, items, total, event
        bulk_action()
    failed_leads(40)
    with django_assert_num_queries(6):
        bulk_action()


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_keeps_the_unprocessed_leads_unchanged() -> None:
    first, *_ = failed_leads(3)
    action = bulk_action()
    process_pending(now=timezone.now(), max_leads=1)

    assert cancel(action.pk, actor="bob", now=NOW)
    assert process_pending(now=later(minutes=5), max_leads=100) == 0

    assert redelivered() == [first.pk]
    cancelled = stored(action)
    assert (cancelled.cancelled_by, cancelled.cancelled_at, cancelled.finished_at) == ("bob", NOW, None)
    event = LeadEvent.objects.latest("pk")
    assert (event.kind, event.lead_id, event.actor) == ("bulk_action_cancelled", None, "bob")
    assert event.detail == {"bulk_action": action.pk, "unprocessed": 2}


def test_only_an_open_bulk_action_can_be_cancelled() -> None:
    failed_leads(1)
    cancelled, finished = bulk_action(), bulk_action()
    cancel(cancelled.pk, actor="bob", now=NOW)
    process_pending(now=timezone.now(), max_leads=100)
    before = (list(BulkAction.objects.order_by("pk").values()), LeadEvent.objects.count())

    for pk in (cancelled.pk, finished.pk, finished.pk + 1):
        assert not cancel(pk, actor="eve", now=NOW)

    assert (list(BulkAction.objects.order_by("pk").values()), LeadEvent.objects.count()) == before
