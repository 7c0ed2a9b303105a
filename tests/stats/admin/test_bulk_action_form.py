"""The page that previews and creates a bulk action."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery.bulk_actions import processing
from delivery.models import BulkAction
from leads.models import EventKind, InboundLead, LeadEvent
from stats.admin import bulk_action_form
from tests import make
from tests.stats.admin.pages import LEADS, client_of, text_in

pytestmark = pytest.mark.django_db

FAILED = "PERMANENTLY_FAILED"
SECRET = "erika@example.com"


def page(kind: str = "redeliver", query: str = "") -> str:
    return f"{LEADS}bulk-action/{kind}/?{query}"


def ids(*leads: InboundLead) -> str:
    return "ids=" + ",".join(str(lead.pk) for lead in leads)


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return text_in(response.text.partition('id="content"')[2])


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


# --- access ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "allowed"), [("Operator", True), (None, True), ("Support", False), ("Auditor", False)]
)
def test_only_operators_and_superusers_run_bulk_actions(role: str | None, allowed: bool) -> None:
    lead = make.lead(status=FAILED)
    client, kinds = client_of(role), ("redeliver", "reprocess", "resolve")
    before = snapshot()

    content = client.get(LEADS).text
    assert [f'<option value="{name}"' in content for name in kinds] == [allowed] * 3
    assert ('name="_selected_action"' in content) == allowed
    assert "delete_selected" not in content
    for kind in kinds:
        selected = client.post(LEADS, {"action": kind, "_selected_action": [lead.pk], "index": "0"})
        assert (page(kind) in selected.headers.get("Location", "")) == allowed
        assert client.get(page(kind, ids(lead))).status_code == (200 if allowed else 403)
    assert snapshot() == before

    fields = {"reason": "x", "expected": 1, "expected_delivered": 0, "form_token": uuid.uuid4()}
    assert client.post(page("resolve", ids(lead)), fields).status_code == (302 if allowed else 403)
    assert BulkAction.objects.exists() == LeadEvent.objects.exists() == allowed


def test_a_form_without_a_token_is_refused() -> None:
    lead = make.lead(status=FAILED)
    client = client_of(None, strict=True)
    before = snapshot()

    assert send(client, page("redeliver", ids(lead))).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("kind", ["delete", "REDELIVER"])
def test_an_unknown_kind_is_not_found(operator: Client, kind: str) -> None:
    assert operator.get(page(kind)).status_code == 404


# --- from the list ---------------------------------------------------------------------------------------------------


def test_selected_leads_are_passed_by_their_ids_and_all_leads_of_a_list_as_its_filters(operator: Client) -> None:
    first, _, third = (make.lead(status=FAILED) for _ in range(3))
    url, selected = f"{LEADS}?situation=attention&o=1&p=1", {"_selected_action": [first.pk, third.pk], "index": "0"}

    response = operator.post(url, {"action": "resolve", **selected})
    assert response.headers["Location"] == page("resolve", ids(first, third))

    response = operator.post(url, {"action": "redeliver", "select_across": "1", **selected})
    assert response.headers["Location"] == page("redeliver", "situation=attention")


# --- the preview -----------------------------------------------------------------------------------------------------


def test_the_preview_shows_affected_and_skipped_leads_by_status(operator: Client) -> None:
    for status in (FAILED, FAILED, "FAILED", "REJECTED", "READY"):
        make.lead(status=status)
    make.lead(status=FAILED, customer_payload=None)

    text = text_of(operator.get(page("redeliver")))

    assert "Selection: All leads " in text
    assert "Redeliver 3 leads" in text
    assert "Permanently failed 1 skipped: a required field is missing; reprocess them instead 3 2" in text
    assert "Rejected 1 skipped: never mapped for the customer; reprocess them instead 1 0" in text
    assert "Ready 1 skipped: already in progress 1 0" in text
    assert "Failed 1 skipped: waiting for a retry, or already resolved" in text_of(operator.get(page("resolve")))


def test_the_selection_equals_the_list(operator: Client) -> None:
    make.lead(status=FAILED, search_email=SECRET)
    make.lead(status=FAILED, search_email=SECRET, resolved_at=timezone.now())
    make.lead(status=FAILED)

    text = text_of(operator.get(page("redeliver", f"situation=attention&q={SECRET}")))

    assert "Situation: Needs attention; Search" in text
    assert "Redeliver 1 lead " in text


@pytest.mark.parametrize("query", ["ids=", f"ids=x,-1,9999999999,{'9' * 5000}", "status=REJECTED"])
def test_without_leads_there_is_no_form(operator: Client, query: str) -> None:
    make.lead(status=FAILED)
    response = operator.get(page("redeliver", query))

    assert "No leads selected. None of these leads can be changed" in text_of(response)
    assert "bulk-action-form" not in response.text


@pytest.mark.parametrize("query", ["from=soon", "from=2026-02-02&to=2026-01-01"])
def test_an_invalid_filter_redirects_to_the_list(operator: Client, query: str) -> None:
    make.lead(status=FAILED)
    response = operator.get(page("redeliver", query))

    assert response.headers["Location"] == LEADS
    assert "Invalid filter. Nothing changed." in operator.get(LEADS).text


def test_too_many_leads_cannot_be_confirmed(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_action_form, "MAX_LEADS", 2)
    for _ in range(3):
        make.lead(status=FAILED)
    response = operator.get(page())

    assert "A bulk action can change at most 2 leads" in text_of(response)
    assert "bulk-action-form" not in response.text


# --- confirmation ----------------------------------------------------------------------------------------------------


def test_a_single_lead_is_redelivered_immediately_and_its_page_opens(operator: Client, queued_leads: Any) -> None:
    lead = make.lead(status=FAILED)

    response = send(operator, page("redeliver", ids(lead)))

    assert response.headers["Location"] == f"{LEADS}{lead.pk}/change/"
    lead.refresh_from_db()
    assert lead.status == "READY"
    assert queued_leads() == [lead.pk]
    bulk_action = BulkAction.objects.get()
    assert (bulk_action.actor, bulk_action.reason, bulk_action.selection, bulk_action.done) == (
        *("operator", "customer was down"),
        *(f"ids={lead.pk}", 1),
    )
    event = lead.events.get(kind=EventKind.REDELIVERED)
    assert (event.actor, event.detail) == ("operator", {"reason": "customer was down", "bulk_action": bulk_action.pk})
    assert f"Lead {lead.pk} will be sent to the customer again." in operator.get("/admin/delivery/bulkaction/").text


@pytest.mark.parametrize("kind", ["resolve", "reprocess"])
def test_a_small_bulk_action_is_processed_immediately_and_a_large_one_by_the_worker(
    operator: Client, kind: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(processing.IMMEDIATE_MAX_LEADS):
        make.lead(status=FAILED)
    with django_assert_max_num_queries(12):
        operator.get(page(kind))
    response = send(operator, page(kind))
    small = BulkAction.objects.get()
    assert response.headers["Location"] == f"/admin/delivery/bulkaction/{small.pk}/change/"
    assert (small.kind, small.done, small.is_open) == (kind, processing.IMMEDIATE_MAX_LEADS, False)

    for _ in range(processing.IMMEDIATE_MAX_LEADS + 1):
        make.lead(status=FAILED)
    assert "Runs in the background at 10 leads per second" in text_of(operator.get(page(kind)))
    send(operator, page(kind))
    large = BulkAction.objects.latest("pk")
    assert (large.total, large.done, large.is_open) == (processing.IMMEDIATE_MAX_LEADS + 1, 0, True)


def test_the_search_text_is_not_stored(operator: Client) -> None:
    make.lead(status=FAILED, search_email=SECRET)

    send(operator, page("resolve", f"q={SECRET}"))

    assert BulkAction.objects.get().selection == "search=1"
    assert SECRET not in str(list(LeadEvent.objects.values()))


def test_a_lead_that_is_being_delivered_is_skipped_with_a_message(operator: Client) -> None:
    lead = make.lead(status="FAILED", claimed_until=timezone.now() + timedelta(minutes=1))

    response = send(operator, page("redeliver", ids(lead)))

    assert response.status_code == 302
    assert f"Lead {lead.pk} is being delivered right now." in operator.get("/admin/delivery/bulkaction/").text
    assert statuses() == ["FAILED"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("reason", reason) for reason in ("", "  \n ", "x" * 501, "nul\0")),
        *(("expected", number) for number in ("", "-1")),
        ("expected_delivered", "many"),
        ("form_token", "x"),
    ],
)
def test_an_invalid_form_changes_nothing_and_keeps_the_reason(operator: Client, field: str, value: str) -> None:
    lead = make.lead(status=FAILED)
    before = snapshot()

    response = send(operator, page("redeliver", ids(lead)), **{field: value})

    assert 'bulk-action-error" role="alert"' in response.text
    assert ("The form is incomplete." in response.text) == ("customer was down" in response.text) == (field != "reason")
    assert snapshot() == before


def test_a_form_that_is_submitted_twice_creates_one_bulk_action(operator: Client) -> None:
    make.lead(status=FAILED)
    other = make.lead(status=FAILED)
    url = page("redeliver")
    fields = {**hidden(operator, url), "reason": "customer was down"}

    first = operator.post(url, fields)
    InboundLead.objects.filter(pk=other.pk).update(status=FAILED)
    second = operator.post(url, fields)

    assert first.headers["Location"] == second.headers["Location"]
    assert BulkAction.objects.count() == 1
    assert LeadEvent.objects.filter(kind=EventKind.REDELIVERED).count() == 2
    assert "You already submitted this form." in operator.get(second.headers["Location"]).text


def test_new_leads_since_the_preview_need_another_confirmation(operator: Client) -> None:
    make.lead(status=FAILED)
    url = page("redeliver", "situation=attention")
    fields = {**hidden(operator, url), "reason": "customer was down"}
    make.lead(status=FAILED)
    before = snapshot()

    response = operator.post(url, fields)

    text = text_of(response)
    assert "There are more leads now than the page showed." in text
    assert "Redeliver 2 leads" in text
    assert "customer was down" in text
    assert snapshot() == before
    assert send(operator, url).status_code == 302
    assert statuses() == ["READY", "READY"]


def test_leads_that_are_no_longer_eligible_are_left_out(operator: Client) -> None:
    changed, last = make.lead(status=FAILED), make.lead(status=FAILED)
    fields = {**hidden(operator, page()), "reason": "customer was down"}
    InboundLead.objects.filter(pk=changed.pk).update(status="READY")

    operator.post(page(), fields)
    assert BulkAction.objects.get().total == 1

    InboundLead.objects.filter(pk=last.pk).update(status=FAILED)
    fields = {**hidden(operator, page()), "reason": "customer was down"}
    InboundLead.objects.filter(pk=last.pk).update(status="READY")
    assert "None of these leads can be changed this way." in text_of(operator.post(page(), fields))
    assert BulkAction.objects.count() == 1


# --- delivered leads -------------------------------------------------------------------------------------------------


def test_delivered_leads_are_sent_again_only_after_confirmation(operator: Client) -> None:
    delivered = make.lead(status="DELIVERED")
    assert re.search(r'name="include_delivered"\s+required', operator.get(page("redeliver", ids(delivered))).text)
    assert "Nothing changed." in text_of(send(operator, page("redeliver", ids(delivered))))
    make.lead(status=FAILED)

    content = operator.get(page()).text
    assert "The customer will receive it twice" in content
    assert not re.search(r'name="include_delivered"[^>]*(checked|required)', content)
    send(operator, page())
    assert statuses() == ["DELIVERED", "READY"]

    send(operator, page(), include_delivered="on")
    assert statuses() == ["READY", "READY"]
    assert BulkAction.objects.latest("pk").include_delivered


@pytest.mark.parametrize("kind", ["reprocess", "resolve"])
def test_only_redelivery_includes_delivered_leads(operator: Client, kind: str) -> None:
    make.lead(status="DELIVERED")
    make.lead(status=FAILED)

    assert 'name="include_delivered"' not in operator.get(page(kind)).text
    send(operator, page(kind), include_delivered="on")

    assert statuses()[0] == "DELIVERED"
    assert not BulkAction.objects.get().include_delivered


def test_new_delivered_leads_since_the_preview_need_another_confirmation(operator: Client) -> None:
    make.lead(status="DELIVERED")
    fields = {**hidden(operator, page()), "reason": "customer lost it", "include_delivered": "on"}
    make.lead(status="DELIVERED")

    assert "There are more leads now" in text_of(operator.post(page(), fields))
    assert statuses() == ["DELIVERED", "DELIVERED"]
