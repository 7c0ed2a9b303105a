"""The list of bulk actions, the page of one, and how it is cancelled."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery.bulk_actions import creation, processing
from delivery.bulk_actions.creation import BulkActionRequest
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leads.models import InboundLead
from stats.admin import bulk_actions
from tests import make
from tests.stats.admin.pages import BULK_ACTIONS, EVENTS, HOSTILE, client_of, text_of

pytestmark = pytest.mark.django_db


def create(leads: int = 3, **columns: Any) -> BulkAction:
    """Create a bulk action for new leads."""
    ids = [make.lead(status="PERMANENTLY_FAILED").pk for _ in range(leads)]
    request = {"kind": BulkActionKind.REDELIVER, "actor": "ann", "reason": "outage", "selection": "all=1", **columns}
    return creation.create(BulkActionRequest(**request), InboundLead.objects.filter(pk__in=ids), now=timezone.now())


def process_pending(most: int = 100) -> None:
    processing.process_pending(now=timezone.now(), max_leads=most)


def page_of(bulk_action: BulkAction) -> str:
    return f"{BULK_ACTIONS}{bulk_action.pk}/change/"


def cancel(client: Client, bulk_action: BulkAction) -> Any:
    return client.post(f"{BULK_ACTIONS}{bulk_action.pk}/cancel/")


@pytest.mark.parametrize("number", ["999", "x", "99999999999999999999999", "-1"])
def test_an_unknown_bulk_action_is_not_found(operator: Client, number: str) -> None:
    assert operator.get(f"{BULK_ACTIONS}{number}/change/").status_code == 404


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_shows_kind_selection_progress_state_actor_and_reason(operator: Client) -> None:
    create(10, reason="customer asked", selection="status=FAILED")
    process_pending(most=4)

    text = text_of(operator, BULK_ACTIONS)

    assert re.search(r"Redeliver Status: Failed 4 of 10 Running ann customer asked", text)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, "Waiting"),
        ({"done": 1}, "Running"),
        ({"done": 2, "finished_at": make.NOON}, "Finished"),
        ({"done": 1, "skipped": 1, "finished_at": make.NOON}, "Finished, some skipped"),
        ({"done": 1, "cancelled_at": make.NOON}, "Cancelled"),
    ],
)
def test_every_state_has_a_name(columns: dict[str, Any], expected: str) -> None:
    assert bulk_actions.state(BulkAction(total=2, **columns))[0] == expected


def test_the_bulk_actions_of_a_lead_are_found_by_its_id(operator: Client) -> None:
    create(2, reason="the first")
    second = create(2, reason="the second")
    item = second.items.first()
    assert item is not None

    text = text_of(operator, f"{BULK_ACTIONS}?q={item.lead_id}")

    assert "the second" in text
    assert "the first" not in text
    assert "0 " in text_of(operator, f"{BULK_ACTIONS}?q=text")


def test_the_list_takes_few_queries(operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    operator.get(BULK_ACTIONS)
    for _ in range(30):
        create(1)
    with django_assert_max_num_queries(10):
        operator.get(BULK_ACTIONS)


# --- the page of one -------------------------------------------------------------------------------------------------


def test_the_page_of_an_open_bulk_action_estimates_the_remaining_time(operator: Client, settings: Any) -> None:
    settings.BULK_ACTION_RATE = 2
    create(40, reason="an older one")
    bulk_action = create(20)
    process_pending(most=2)

    response = operator.get(page_of(bulk_action))

    assert 'data-refresh="3"' in response.text
    text = text_of(operator, page_of(bulk_action))
    assert "0 done 0 skipped 20 waiting" in text
    assert "About 29 s left at 2 leads per second. 38 leads of older bulk actions are processed first." in text


def test_the_page_of_a_finished_bulk_action_shows_what_was_skipped(operator: Client) -> None:
    bulk_action = create()
    moved = bulk_action.items.order_by("pk").values_list("lead", flat=True)[1]
    InboundLead.objects.filter(pk=moved).update(status="DELIVERED")
    process_pending()

    page, text = operator.get(page_of(bulk_action)).text, text_of(operator, page_of(bulk_action))
    assert 'data-refresh=""' in page
    assert "cancel-button" not in page
    assert "waiting" not in text
    assert "2 done 1 skipped" in text
    assert f"Lead {moved} Lead {moved} was already delivered." in text
    assert f'href="/admin/leads/inboundlead/{moved}/change/">' in page


def test_only_the_first_skipped_leads_are_listed(
    operator: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(bulk_actions, "MAX_SKIPPED_SHOWN", 2)
    bulk_action = create(5)
    bulk_action.items.update(outcome=BulkActionItem.Outcome.SKIPPED, skip_reason=SkipReason.IN_PROGRESS)
    BulkAction.objects.update(skipped=5, finished_at=timezone.now())

    with django_assert_max_num_queries(8):
        text = text_of(operator, page_of(bulk_action))

    assert text.count("is already in progress") == 2
    assert "… and 3 more" in text


def test_hostile_texts_are_shown_as_text(operator: Client) -> None:
    bulk_action = create(reason=HOSTILE, selection=HOSTILE)

    for url in (BULK_ACTIONS, page_of(bulk_action)):
        content = operator.get(url).text
        assert "<script>alert(1)" not in content
        assert "\u202e" not in content
        assert content.count("&lt;script&gt;alert(1)&lt;/script&gt;\\u202e") >= 2


def test_the_page_links_to_the_events_of_the_bulk_action(operator: Client) -> None:
    bulk_action, other = create(2), create(1)
    process_pending()
    create(1)
    link = re.search(r'href="(/admin/leads/leadevent/\?bulk_action=\d+)"', operator.get(page_of(bulk_action)).text)
    assert link is not None

    listed = operator.get(link[1]).context["cl"].result_list

    assert {event.detail["bulk_action"] for event in listed} == {bulk_action.pk} != {other.pk}
    assert sorted(event.kind for event in listed) == ["bulk_action_created", "redelivered", "redelivered"]


@pytest.mark.parametrize("number", ["999", "x", "9" * 40])
def test_an_unknown_bulk_action_has_no_events(operator: Client, number: str) -> None:
    create()

    assert list(operator.get(f"{EVENTS}?bulk_action={number}").context["cl"].result_list) == []


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_an_operator_cancels_the_waiting_leads(operator: Client) -> None:
    bulk_action = create(5)
    process_pending(most=2)

    assert "Cancel 3 waiting leads" in text_of(operator, page_of(bulk_action))
    assert cancel(operator, bulk_action).headers["Location"] == page_of(bulk_action)
    assert BulkAction.objects.get().cancelled_by == "operator"
    text = text_of(operator, page_of(bulk_action))
    assert "2 done 0 skipped 3 not processed" in text
    assert "Cancelled" in text

    response = cancel(operator, bulk_action)
    assert "The bulk action was already finished or cancelled." in operator.get(response.headers["Location"]).text


def test_only_a_post_with_a_token_by_an_operator_cancels() -> None:
    bulk_action = create()
    url = f"{BULK_ACTIONS}{bulk_action.pk}/cancel/"
    for role in ("Support", "Auditor"):
        client = client_of(role)
        assert "cancel-button" not in client.get(page_of(bulk_action)).text
        assert client.post(url).status_code == 403

    assert client_of("Operator").get(url).status_code == 405
    assert client_of(None, strict=True).post(url).status_code == 403
    assert BulkAction.objects.get().is_open
