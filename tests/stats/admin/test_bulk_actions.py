"""The list of bulk_actions, the page of one, and cancelling it."""

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery.bulk_actions import creation, processing
from delivery.bulk_actions.creation import BulkActionRequest
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leads.models import EventKind, InboundLead, LeadEvent
from stats.admin import bulk_actions
from tests import make

pytestmark = pytest.mark.django_db

ORDERS = "/admin/delivery/bulkaction/"
EVENTS = "/admin/leads/leadevent/"
HOSTILE = "<script>alert(1)</script> \u202egnp.exe"


def signed_in(role: str | None) -> Client:
    user = User.objects.create_user(role or "root", is_staff=True, is_superuser=role is None)
    if role is not None:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in("Operator")


def placed(leads: int = 3, **more: Any) -> BulkAction:
    """Place an order for new leads."""
    numbers = [make.lead(status="PERMANENTLY_FAILED").pk for _ in range(leads)]
    told: dict[str, Any] = {
        "kind": BulkActionKind.REDELIVER,
        "actor": "ann",
        "reason": "outage",
        "selection": "all",
        **more,
    }
    return creation.create(BulkActionRequest(**told), InboundLead.objects.filter(pk__in=numbers), now=timezone.now())


def process_pending(most: int = 100) -> None:
    processing.process_pending(now=timezone.now(), max_leads=most)


def page_of(order: BulkAction) -> str:
    return f"{ORDERS}{order.pk}/change/"


def cancel(client: Client, order: BulkAction) -> Any:
    return client.post(f"{ORDERS}{order.pk}/cancel/")


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    content = response.text.partition('id="content"')[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


# --- looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["Support", "Operator", "Auditor", None])
def test_every_role_may_look(role: str | None) -> None:
    order, client = placed(), signed_in(role)

    assert [client.get(url).status_code for url in (ORDERS, page_of(order))] == [200, 200]


def test_who_may_not_see_orders_sees_none() -> None:
    order, client = placed(), Client()
    client.force_login(User.objects.create_user("intern", is_staff=True))

    assert [client.get(url).status_code for url in (ORDERS, page_of(order))] == [403, 403]


@pytest.mark.parametrize("path", ["add/", "{bulk_action}/delete/"])
def test_nobody_adds_or_deletes(path: str) -> None:
    order, client = placed(), signed_in(None)
    url = ORDERS + path.format(bulk_action=order.pk)

    assert [client.get(url).status_code, client.post(url, {"post": "yes"}).status_code] == [403, 403]
    assert BulkAction.objects.count() == 1


def test_nobody_changes_an_order() -> None:
    order = placed()
    before = BulkAction.objects.values().get()

    signed_in(None).post(page_of(order), {"reason": "another", "total": 0, "_save": "Save"})

    assert BulkAction.objects.values().get() == before


@pytest.mark.parametrize("number", ["999", "x", "99999999999999999999999", "-1"])
def test_an_order_that_there_is_not_is_not_found(operator: Client, number: str) -> None:
    assert operator.get(f"{ORDERS}{number}/change/").status_code == 404


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_says_who_ordered_what_when_why_and_how_far_it_is(operator: Client) -> None:
    placed(10, reason="they asked for it", selection="status=FAILED")
    process_pending(most=4)

    text = text_of(operator, ORDERS)

    assert re.search(r"Redeliver Status: Failed 4 of 10 Running ann they asked for it", text)


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
def test_every_state_has_its_word(columns: dict[str, Any], expected: str) -> None:
    assert bulk_actions.state(BulkAction(total=2, **columns))[0] == expected


def test_the_orders_of_a_lead_are_found_by_its_id(operator: Client) -> None:
    placed(2, reason="the first one")
    second = placed(2, reason="the second one")
    item = second.items.first()
    assert item is not None

    text = text_of(operator, f"{ORDERS}?q={item.lead_id}")

    assert "the second one" in text
    assert "the first one" not in text
    assert "0 " in text_of(operator, f"{ORDERS}?q=nobody")


@pytest.mark.parametrize("number", [3, 30])
def test_the_list_takes_as_many_queries_however_long_it_is(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    operator.get(ORDERS)
    for _ in range(number):
        placed(1)
    with django_assert_max_num_queries(10):
        operator.get(ORDERS)


# --- the page of one -------------------------------------------------------------------------------------------------


def test_the_page_of_an_open_order_looks_again_and_tells_how_long_it_takes(operator: Client, settings: Any) -> None:
    settings.BULK_ACTION_RATE = 2
    placed(40, reason="an older one")
    order = placed(20)
    process_pending(most=2)

    response = operator.get(page_of(order))

    assert 'data-refresh="3"' in response.text
    text = text_of(operator, page_of(order))
    assert "0 done 0 skipped 20 waiting" in text
    assert "About 29 s left at 2 leads per second. 38 leads of older bulk actions are processed first." in text


def test_the_page_of_an_order_at_its_end_does_not_look_again(operator: Client) -> None:
    order = placed()
    process_pending()
    response = operator.get(page_of(order))

    assert 'data-refresh=""' in response.text
    assert "3 done 0 skipped" in text_of(operator, page_of(order))
    assert "waiting" not in text_of(operator, page_of(order))
    assert "cancel-button" not in response.text


def test_refused_leads_are_told_with_the_reason_and_a_link(operator: Client) -> None:
    order = placed(3)
    moved = order.items.order_by("pk").values_list("lead", flat=True)[1]
    InboundLead.objects.filter(pk=moved).update(status="DELIVERED")
    process_pending()

    assert "2 done 1 skipped" in text_of(operator, page_of(order))
    assert f"Lead {moved} Lead {moved} was already delivered." in text_of(operator, page_of(order))
    assert f'href="/admin/leads/inboundlead/{moved}/change/">' in operator.get(page_of(order)).text


def test_of_many_refused_leads_the_first_are_shown_and_the_others_counted(
    operator: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(bulk_actions, "MAX_SKIPPED_SHOWN", 2)
    order = placed(5)
    order.items.update(outcome=BulkActionItem.Outcome.SKIPPED, skip_reason=SkipReason.IN_PROGRESS)
    BulkAction.objects.update(skipped=5, finished_at=timezone.now())

    with django_assert_max_num_queries(8):
        text = text_of(operator, page_of(order))

    assert text.count("is already in progress") == 2
    assert "… and 3 more" in text


def test_hostile_texts_are_shown_and_not_obeyed(operator: Client) -> None:
    order = placed(reason=HOSTILE, selection=HOSTILE)

    for url in (ORDERS, page_of(order)):
        content = operator.get(url).text
        assert "<script>alert(1)" not in content
        assert "\u202e" not in content
        assert content.count("&lt;script&gt;alert(1)&lt;/script&gt; \\u202egnp.exe") >= 2


def test_the_page_leads_to_the_events_of_this_order_and_no_other(operator: Client) -> None:
    order, other = placed(2), placed(1)
    process_pending()
    placed(1)
    link = re.search(r'href="(/admin/leads/leadevent/\?bulk_action=\d+)"', operator.get(page_of(order)).text)
    assert link is not None

    listed = operator.get(link[1]).context["cl"].result_list

    assert {event.detail["bulk_action"] for event in listed} == {order.pk} != {other.pk}
    assert sorted(event.kind for event in listed) == ["bulk_action_created", "redelivered", "redelivered"]


@pytest.mark.parametrize("number", ["999", "x", "9" * 40])
def test_the_events_of_no_order_are_none(operator: Client, number: str) -> None:
    placed()

    assert list(operator.get(f"{EVENTS}?bulk_action={number}").context["cl"].result_list) == []


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_an_operator_cancels_what_is_left(operator: Client) -> None:
    order = placed(5)
    process_pending(most=2)

    assert "Cancel 3 waiting leads" in text_of(operator, page_of(order))
    assert cancel(operator, order).headers["Location"] == page_of(order)
    process_pending()

    order.refresh_from_db()
    assert (order.done, order.cancelled_by, order.is_open) == (2, "Operator", False)
    event = LeadEvent.objects.latest("pk")
    assert (event.kind, event.actor, event.detail) == (
        *(EventKind.BULK_ACTION_CANCELLED, "Operator"),
        {"bulk_action": order.pk, "unprocessed": 3},
    )
    text = text_of(operator, page_of(order))
    assert "2 done 0 skipped 3 not processed" in text
    assert "Cancelled" in text


def test_cancelling_what_is_finished_says_so_and_changes_nothing(operator: Client) -> None:
    order = placed(1)
    process_pending()
    before = (BulkAction.objects.values().get(), LeadEvent.objects.count())

    response = cancel(operator, order)

    assert "The bulk action was already finished or cancelled." in operator.get(response.headers["Location"]).text
    assert (BulkAction.objects.values().get(), LeadEvent.objects.count()) == before


@pytest.mark.parametrize("role", ["Support", "Auditor"])
def test_who_may_only_look_cannot_cancel(role: str) -> None:
    order, client = placed(), signed_in(role)

    assert "cancel-button" not in client.get(page_of(order)).text
    assert cancel(client, order).status_code == 403
    assert BulkAction.objects.get().is_open


def test_opening_the_address_of_cancelling_cancels_nothing(operator: Client) -> None:
    order = placed()

    assert operator.get(f"{ORDERS}{order.pk}/cancel/").status_code == 405
    assert BulkAction.objects.get().is_open


def test_a_form_from_elsewhere_cancels_nothing() -> None:
    order, client = placed(), Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))

    assert cancel(client, order).status_code == 403
    assert BulkAction.objects.get().is_open
