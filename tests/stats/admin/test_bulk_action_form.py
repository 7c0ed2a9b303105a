"""From the list of leads to an order: what is shown before, what is asked for, and what then happens, once."""

import html
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery.bulk_actions import processing
from delivery.models import BulkAction
from leads.models import EventKind, InboundLead, LeadEvent
from stats.admin import bulk_action_form
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"
GIVEN_UP = "PERMANENTLY_FAILED"
SECRET = "erika@example.com"


def signed_in(role: str | None) -> Client:
    """Return a client of somebody with a role; a superuser without one."""
    user = User.objects.create_user(role or "root", is_staff=True, is_superuser=role is None)
    if role is not None:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in("Operator")


def page(kind: str = "redeliver", query: str = "") -> str:
    return f"{LEADS}bulk-action/{kind}/?{query}"


def ids(*leads: InboundLead) -> str:
    return "ids=" + ",".join(str(lead.pk) for lead in leads)


def text_of(response: Any) -> str:
    """Return what the page's own part says, without its markup."""
    assert response.status_code == 200
    content = response.text.partition('id="content"')[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


def hidden(client: Client, url: str) -> dict[str, str]:
    """Open a page; return the hidden fields of its form."""
    form = client.get(url).text.partition("bulk-action-form")[2]
    return dict(re.findall(r'<input type="hidden" name="(form_token|expected\w*)" value="(\S*)">', form))


def send(client: Client, url: str, **fields: Any) -> Any:
    """Open a page, fill its form in and send it."""
    return client.post(url, {**hidden(client, url), "reason": "customer was down", **fields})


def snapshot() -> list[Any]:
    models: tuple[Any, ...] = (InboundLead, LeadEvent, BulkAction)
    return [list(model.objects.order_by("pk").values()) for model in models]


def statuses() -> list[str]:
    return list(InboundLead.objects.order_by("pk").values_list("status", flat=True))


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "allowed"), [("Operator", True), (None, True), ("Support", False), ("Auditor", False)]
)
@pytest.mark.parametrize("kind", ["redeliver", "reprocess", "resolve"])
def test_only_who_may_act_gets_to_order_anything(role: str | None, allowed: bool, kind: str) -> None:
    lead = make.lead(status=GIVEN_UP)
    client, url = signed_in(role), page(kind, ids(lead))
    fields = {"reason": "x", "expected": 1, "expected_delivered": 0, "form_token": uuid.uuid4()}

    opened, sent = client.get(url), client.post(url, fields)

    assert (opened.status_code, sent.status_code) == ((200, 302) if allowed else (403, 403))
    assert BulkAction.objects.exists() == LeadEvent.objects.exists() == allowed


@pytest.mark.parametrize(
    ("role", "offered"), [("Operator", True), (None, True), ("Support", False), ("Auditor", False)]
)
def test_the_list_offers_actions_to_those_who_may_and_never_deletion(role: str | None, offered: bool) -> None:
    make.lead(status=GIVEN_UP)
    content = signed_in(role).get(LEADS).text

    assert [f'<option value="{name}"' in content for name in ("redeliver", "reprocess", "resolve")] == [offered] * 3
    assert ('name="_selected_action"' in content) == offered
    assert "delete_selected" not in content


def test_support_cannot_post_an_action(queued_leads: Any) -> None:
    lead = make.lead(status=GIVEN_UP)
    before = snapshot()

    response = signed_in("Support").post(LEADS, {"action": "redeliver", "_selected_action": [lead.pk], "index": "0"})

    assert "bulk-action/redeliver" not in response.headers.get("Location", "")
    assert snapshot() == before


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    assert "/admin/login/" in client.get(page()).headers["Location"]


def test_a_form_from_elsewhere_is_refused() -> None:
    lead = make.lead(status=GIVEN_UP)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    before = snapshot()

    assert send(client, page("redeliver", ids(lead))).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("kind", ["delete", "REDELIVER", "redeliver,resolve"])
def test_what_nobody_can_order_is_not_found(operator: Client, kind: str) -> None:
    assert operator.get(page(kind)).status_code == 404


# --- from the list ---------------------------------------------------------------------------------------------------


def test_ticked_leads_go_along_by_their_ids(operator: Client) -> None:
    first, _, third = (make.lead(status=GIVEN_UP) for _ in range(3))

    response = operator.post(
        f"{LEADS}?status={GIVEN_UP}",
        {"action": "resolve", "_selected_action": [first.pk, third.pk], "index": "0"},
    )

    assert response.headers["Location"] == page("resolve", ids(first, third))


def test_all_of_a_list_goes_along_as_what_the_list_was_asked_for(operator: Client) -> None:
    lead = make.lead(status=GIVEN_UP)

    response = operator.post(
        f"{LEADS}?situation=attention&o=1&p=1",
        {"action": "redeliver", "_selected_action": [lead.pk], "select_across": "1", "index": "0"},
    )

    assert response.headers["Location"] == page("redeliver", "situation=attention")


# --- what is shown before --------------------------------------------------------------------------------------------


def test_opening_the_page_changes_nothing(operator: Client, queued_leads: Any) -> None:
    make.lead(status=GIVEN_UP)
    before = snapshot()

    for kind in ("redeliver", "reprocess", "resolve"):
        assert operator.get(page(kind)).status_code == 200
        assert operator.head(page(kind)).status_code == 200

    assert snapshot() == before
    assert queued_leads() == []


def test_the_page_says_how_many_are_touched_and_why_the_others_are_not(operator: Client) -> None:
    for status in (GIVEN_UP, GIVEN_UP, "FAILED", "REJECTED", "READY"):
        make.lead(status=status)
    make.lead(status=GIVEN_UP, customer_payload=None)

    text = text_of(operator.get(page("redeliver")))

    assert "Selection: All leads " in text
    assert "Redeliver 3 leads" in text
    assert "Permanently failed 1 skipped: a required field is missing; reprocess them instead 3 2" in text
    assert "Rejected 1 skipped: never mapped for the customer; reprocess them instead 1 0" in text
    assert "Ready 1 skipped: already in progress 1 0" in text


def test_the_leads_are_exactly_those_that_the_list_showed(operator: Client) -> None:
    make.lead(status=GIVEN_UP, search_email=SECRET)
    make.lead(status=GIVEN_UP, search_email=SECRET, resolved_at=timezone.now())
    make.lead(status=GIVEN_UP)

    text = text_of(operator.get(page("redeliver", f"situation=attention&q={SECRET}")))

    assert "Situation: Needs attention; Search" in text
    assert "Redeliver 1 lead " in text


def test_several_ids_are_told(operator: Client) -> None:
    leads = [make.lead(status=GIVEN_UP) for _ in range(6)]

    assert f"Selection: Lead {leads[0].pk} " in text_of(operator.get(page("resolve", ids(leads[0]))))
    assert f"Selection: Leads {leads[0].pk}, {leads[1].pk} " in text_of(operator.get(page("resolve", ids(*leads[:2]))))
    assert "Selection: 6 leads, selected one by one" in text_of(operator.get(page("resolve", ids(*leads))))


@pytest.mark.parametrize("query", ["ids=", "ids=x,-1,99999999999,9999999999", f"ids={'9' * 5000}", "status=REJECTED"])
def test_without_leads_there_is_no_form(operator: Client, query: str) -> None:
    make.lead(status=GIVEN_UP)
    response = operator.get(page("redeliver", query))

    assert "No leads selected. None of these leads can be changed" in text_of(response)
    assert "bulk-action-form" not in response.text


@pytest.mark.parametrize("query", ["from=soon", "from=2026-02-02&to=2026-01-01"])
def test_a_question_that_the_list_cannot_answer_leads_back_to_it(operator: Client, query: str) -> None:
    make.lead(status=GIVEN_UP)
    response = operator.get(page("redeliver", query))

    assert response.headers["Location"] == LEADS
    assert "Invalid filter. Nothing changed." in operator.get(LEADS).text


def test_a_column_that_is_no_question_is_refused(operator: Client) -> None:
    make.lead(status=GIVEN_UP)

    assert operator.get(page("redeliver", "raw_payload__email=x")).status_code == 400


def test_more_than_one_order_may_be_for_is_said_before(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_action_form, "MAX_LEADS", 2)
    for _ in range(3):
        make.lead(status=GIVEN_UP)
    response = operator.get(page())

    assert "A bulk action can change at most 2 leads" in text_of(response)
    assert "bulk-action-form" not in response.text


def test_the_page_takes_as_many_queries_for_any_number_of_leads(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    make.lead(status=GIVEN_UP)
    with django_assert_max_num_queries(12) as few:
        operator.get(page())
    for _ in range(60):
        make.lead(status=GIVEN_UP)
    with django_assert_max_num_queries(12) as many:
        operator.get(page())

    assert len(many) == len(few)


# --- ordering --------------------------------------------------------------------------------------------------------


def test_one_lead_is_redelivered_at_once_and_its_page_is_next(operator: Client, queued_leads: Any) -> None:
    lead = make.lead(status=GIVEN_UP)

    response = send(operator, page("redeliver", ids(lead)))

    assert response.headers["Location"] == f"{LEADS}{lead.pk}/change/"
    lead.refresh_from_db()
    assert lead.status == "READY"
    assert queued_leads() == [lead.pk]
    order = BulkAction.objects.get()
    assert (order.actor, order.reason, order.selection, order.done) == (
        *("Operator", "customer was down"),
        *(f"ids={lead.pk}", 1),
    )
    event = lead.events.get(kind=EventKind.REDELIVERED)
    assert (event.actor, event.detail) == ("Operator", {"reason": "customer was down", "bulk_action": order.pk})
    assert f"Lead {lead.pk} will be sent to the customer again." in operator.get("/admin/delivery/bulkaction/").text


@pytest.mark.parametrize(
    ("kind", "status", "becomes", "event"),
    [("reprocess", "REJECTED", "RECEIVED", "reprocessed"), ("resolve", GIVEN_UP, GIVEN_UP, "resolved")],
)
def test_the_other_orders_do_what_they_say(operator: Client, kind: str, status: str, becomes: str, event: str) -> None:
    lead = make.lead(status=status)

    assert send(operator, page(kind, ids(lead))).status_code == 302

    lead.refresh_from_db()
    assert (lead.status, lead.resolved_at is not None) == (becomes, kind == "resolve")
    assert lead.events.filter(kind=event, actor="Operator").exists()


def test_a_few_leads_are_done_at_once_and_the_order_is_next(operator: Client) -> None:
    for _ in range(processing.IMMEDIATE_MAX_LEADS):
        make.lead(status=GIVEN_UP)

    response = send(operator, page("resolve"))

    order = BulkAction.objects.get()
    assert response.headers["Location"] == f"/admin/delivery/bulkaction/{order.pk}/change/"
    assert (order.done, order.is_open) == (processing.IMMEDIATE_MAX_LEADS, False)


def test_many_leads_are_left_to_the_worker(operator: Client) -> None:
    for _ in range(processing.IMMEDIATE_MAX_LEADS + 1):
        make.lead(status=GIVEN_UP)

    assert "Runs in the background at 10 leads per second" in text_of(operator.get(page("redeliver")))
    send(operator, page("redeliver"))

    order = BulkAction.objects.get()
    assert (order.total, order.done, order.is_open) == (processing.IMMEDIATE_MAX_LEADS + 1, 0, True)
    assert set(statuses()) == {GIVEN_UP}


def test_the_search_text_is_not_stored(operator: Client) -> None:
    make.lead(status=GIVEN_UP, search_email=SECRET)

    send(operator, page("resolve", f"q={SECRET}"))

    assert BulkAction.objects.get().selection == "search=1"
    assert SECRET not in str(list(LeadEvent.objects.values()))


def test_the_stored_selection_does_not_depend_on_the_language(operator: Client) -> None:
    lead = make.lead(status=GIVEN_UP)
    operator.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"

    send(operator, page("resolve", ids(lead)))

    assert BulkAction.objects.get().selection == f"ids={lead.pk}"
    assert lead.events.get().detail["reason"] == "customer was down"


def test_a_lead_that_a_worker_has_in_hand_is_refused_in_words(operator: Client) -> None:
    lead = make.lead(status="FAILED", claimed_until=timezone.now() + timedelta(minutes=1))

    response = send(operator, page("redeliver", ids(lead)))

    assert response.status_code == 302
    assert f"Lead {lead.pk} is being delivered right now." in operator.get("/admin/delivery/bulkaction/").text
    assert statuses() == ["FAILED"]


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 501, "nul\0"])
def test_no_order_without_a_reason(operator: Client, reason: str) -> None:
    lead = make.lead(status=GIVEN_UP)
    before = snapshot()

    response = send(operator, page("redeliver", ids(lead)), reason=reason)

    assert 'class="bulk-action-error" role="alert"' in response.text
    assert snapshot() == before


@pytest.mark.parametrize(
    "broken", [{"expected": ""}, {"expected": "-1"}, {"form_token": "x"}, {"expected_delivered": "many"}]
)
def test_a_form_that_did_not_arrive_whole_orders_nothing_and_can_be_sent_again(
    operator: Client, broken: dict[str, str]
) -> None:
    lead = make.lead(status=GIVEN_UP)
    before = snapshot()

    response = send(operator, page("redeliver", ids(lead)), **broken)

    assert "The form is incomplete." in text_of(response)
    assert "customer was down" in response.text
    assert snapshot() == before


def test_a_form_sent_twice_orders_once(operator: Client) -> None:
    make.lead(status=GIVEN_UP)
    other = make.lead(status=GIVEN_UP)
    url = page("redeliver")
    fields = {**hidden(operator, url), "reason": "customer was down"}

    first = operator.post(url, fields)
    InboundLead.objects.filter(pk=other.pk).update(status=GIVEN_UP)
    second = operator.post(url, fields)

    assert first.headers["Location"] == second.headers["Location"]
    assert BulkAction.objects.count() == 1
    assert LeadEvent.objects.filter(kind=EventKind.REDELIVERED).count() == 2
    assert "You already submitted this form." in operator.get(second.headers["Location"]).text


def test_when_there_are_more_leads_than_were_shown_the_page_comes_again(operator: Client) -> None:
    make.lead(status=GIVEN_UP)
    url = page("redeliver", "situation=attention")
    fields = {**hidden(operator, url), "reason": "customer was down"}
    make.lead(status=GIVEN_UP)
    before = snapshot()

    response = operator.post(url, fields)

    text = text_of(response)
    assert "There are more leads now than the page showed." in text
    assert "Redeliver 2 leads" in text
    assert "customer was down" in text
    assert snapshot() == before
    assert send(operator, url).status_code == 302
    assert statuses() == ["READY", "READY"]


def test_when_there_are_fewer_leads_than_were_shown_the_rest_is_ordered(operator: Client) -> None:
    gone = make.lead(status=GIVEN_UP)
    make.lead(status=GIVEN_UP)
    fields = {**hidden(operator, page()), "reason": "customer was down"}
    InboundLead.objects.filter(pk=gone.pk).update(status="READY")

    operator.post(page(), fields)

    assert BulkAction.objects.get().total == 1


def test_when_no_lead_is_left_nothing_is_ordered(operator: Client) -> None:
    lead = make.lead(status=GIVEN_UP)
    fields = {**hidden(operator, page()), "reason": "customer was down"}
    InboundLead.objects.filter(pk=lead.pk).update(status="READY")

    assert "None of these leads can be changed this way." in text_of(operator.post(page(), fields))
    assert not BulkAction.objects.exists()


# --- leads that the customer has -------------------------------------------------------------------------------------


def test_delivered_leads_are_sent_again_only_after_a_second_confirmation(operator: Client) -> None:
    make.lead(status="DELIVERED")
    make.lead(status=GIVEN_UP)
    content = operator.get(page()).text

    assert "The customer will receive it twice" in content
    assert not re.search(r'name="include_delivered"[^>]*checked', content)
    send(operator, page())
    assert statuses() == ["DELIVERED", "READY"]

    send(operator, page(), include_delivered="on")
    assert statuses() == ["READY", "READY"]
    assert BulkAction.objects.latest("pk").include_delivered


def test_a_delivered_lead_alone_needs_the_confirmation(operator: Client) -> None:
    lead = make.lead(status="DELIVERED")
    url = page("redeliver", ids(lead))

    assert re.search(r'name="include_delivered"\s+required', operator.get(url).text)
    assert "Nothing changed." in text_of(send(operator, url))
    assert not BulkAction.objects.exists()

    assert send(operator, url, include_delivered="on").headers["Location"] == f"{LEADS}{lead.pk}/change/"
    assert statuses() == ["READY"]


@pytest.mark.parametrize("kind", ["reprocess", "resolve"])
def test_the_confirmation_is_for_redelivery_alone(operator: Client, kind: str) -> None:
    make.lead(status="DELIVERED")
    make.lead(status=GIVEN_UP)

    assert 'name="include_delivered"' not in operator.get(page(kind)).text
    send(operator, page(kind), include_delivered="on")

    assert statuses()[0] == "DELIVERED"
    assert not BulkAction.objects.get().include_delivered


def test_confirmed_leads_that_have_become_more_are_not_sent_again(operator: Client) -> None:
    make.lead(status="DELIVERED")
    fields = {**hidden(operator, page()), "reason": "they lost it", "include_delivered": "on"}
    make.lead(status="DELIVERED")

    assert "There are more leads now" in text_of(operator.post(page(), fields))
    assert statuses() == ["DELIVERED", "DELIVERED"]
