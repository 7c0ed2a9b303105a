"""The list of leads. A lead's page, orders, filters, pages, sidebar and export have files of their own."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture
def admin_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def support() -> Client:
    user = User.objects.create_user("support", is_staff=True)
    user.groups.add(Group.objects.get(name="Support"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(params=["superuser", "support"])
def looker(request: pytest.FixtureRequest) -> Client:
    return request.getfixturevalue("admin_client" if request.param == "superuser" else "support")


def page_of(lead: InboundLead) -> str:
    return reverse("admin:leads_inboundlead_change", args=[lead.pk])


def listed(client: Client, **query: Any) -> list[int]:
    response = client.get(LEADS, query)
    assert response.status_code == 200, response.headers.get("Location")
    return [record.pk for record in response.context["cl"].result_list]


def rows_of(client: Client, **query: Any) -> list[str]:
    """Return what each row of the list says, without its markup."""
    page = client.get(LEADS, query).text
    rows = re.findall(r'<tr class="data-row.*?</tr>', page, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


# --- looking, not touching -------------------------------------------------------------------------------------------


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    assert client.get(LEADS).headers["Location"] == f"/admin/login/?next={LEADS}"


def test_staff_without_the_permission_sees_nothing() -> None:
    client = Client()
    client.force_login(User.objects.create_user("intern", is_staff=True))

    assert client.get(LEADS).status_code == 403


@pytest.mark.parametrize("path", ["add/", "{lead}/delete/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_adds_or_deletes(looker: Client, path: str, method: str) -> None:
    lead = make.event().lead
    before = InboundLead.objects.values().get(pk=lead.pk)

    response = getattr(looker, method)(LEADS + path.format(lead=lead.pk), {"post": "yes"} if method == "post" else {})

    assert response.status_code == 403
    assert InboundLead.objects.values().get() == before


def test_nobody_deletes_in_bulk(looker: Client) -> None:
    lead = make.event().lead
    data = {"action": "delete_selected", "_selected_action": [lead.pk], "index": "0", "post": "yes"}
    looker.post(LEADS, data)
    looker.post(LEADS, data | {"select_across": "1"})

    assert InboundLead.objects.count() == LeadEvent.objects.count() == 1


# --- the list --------------------------------------------------------------------------------------------------------


def test_leads_are_listed_newest_first(admin_client: Client) -> None:
    old, new, middle = (make.lead(received_at=make.NOON + timedelta(hours=hours)) for hours in (0, 2, 1))
    same = make.lead(received_at=new.received_at)

    assert listed(admin_client) == [same.pk, new.pk, middle.pk, old.pk]


def test_a_row_says_what_support_needs(admin_client: Client) -> None:
    lead = make.lead(
        received_at=make.NOON,
        status=LeadStatus.PERMANENTLY_FAILED,
        rejection_reason="A_REASON",
        last_answer="503",
        search_phone="+4915112345678",
        search_email="erika@example.com",
        search_zipcode="66111",
        search_name="erika mustermann",
    )
    for _ in range(3):
        make.attempt(lead)

    (row,) = rows_of(admin_client)

    at = "21 Jan 2026 13:00:00 CET"
    begin = f"#{lead.pk} {str(lead.correlation_id)[:8]} {at} Permanently failed A_REASON HTTP 503 3 attempts –"
    assert row.startswith(begin)
    assert row.endswith("+4915112345678 erika@example.com Erika Mustermann 66111")


def test_a_row_says_when_the_lead_was_delivered_or_is_tried_next(admin_client: Client) -> None:
    make.lead(status=LeadStatus.DELIVERED, delivered_at=make.NOON)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=make.NOON)
    make.lead(status=LeadStatus.REJECTED)

    rejected, waiting, delivered = rows_of(admin_client)

    assert "21 Jan 2026 13:00:00 CET delivered" in delivered
    assert "21 Jan 2026 13:00:00 CET next attempt" in waiting
    assert "21 Jan" not in rejected


def test_support_sees_addresses_and_numbers_masked(support: Client) -> None:
    make.lead(search_phone="+4915112345678", search_email="erika@example.com", search_name="erika 015112345678")

    (row,) = rows_of(support)

    assert "+4915•••••78 e•••@example.com" in row
    assert "12345678" not in support.get(LEADS).text
    assert "erika@" not in support.get(LEADS).text


def test_a_masked_lead_is_found_by_what_is_masked(support: Client) -> None:
    lead = make.lead(search_email="erika@example.com")

    assert support.get(LEADS, {"q": "erika@example.com"}).headers["Location"] == page_of(lead)


@pytest.mark.parametrize("status", LeadStatus)
def test_every_status_has_a_badge_and_a_colour(admin_client: Client, status: LeadStatus) -> None:
    make.lead(status=status)
    badge = f'<span class="gateway-badge gateway-{status.lower()}">{status.label}</span>'
    stylesheet = b"".join(admin_client.get("/static/stats/gateway.css").streaming_content).decode()

    assert badge in admin_client.get(LEADS).text
    assert status == LeadStatus.RECEIVED or re.search(rf"\.gateway-{status.lower()} {{\s", stylesheet)


def test_a_row_leads_to_the_lead_and_keeps_the_filters(admin_client: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED)

    page = admin_client.get(LEADS, {"status": "FAILED", "p": "1"}).text

    assert f'href="{page_of(lead)}?_changelist_filters=' in page
    assert "status%3DFAILED" in page


def test_hostile_leads_stay_text(admin_client: Client) -> None:
    evil = "<script>alert(1)</script>\u202e"
    make.lead(search_name=evil, search_email=evil, search_zipcode="<b>", rejection_reason=evil, last_answer=evil)

    page = admin_client.get(LEADS).text

    assert "<script>alert" not in page.lower()
    assert "<b>" not in page
    assert "\u202e" not in re.sub(r'"[^"]*"', "", page)  # in an attribute it turns nothing around


def test_the_list_takes_as_many_queries_however_long_it_is(admin_client: Client) -> None:
    taken = []
    for number in (10, 50):
        for _ in range(number):
            make.attempt()
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client)) == min(number, 25)
        taken.append(len(queries))

    # the session, its user, answers that occur, the count, the rows, their attempts, the sidebar's numbers, the gate
    assert taken == [8, 8]


def test_the_list_leaves_the_payloads_in_the_database(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make.lead()
    with django_assert_num_queries(8) as queries:
        listed(admin_client)

    assert not [query for query in queries.captured_queries if "payload" in query["sql"].replace("payload_hash", "")]


# --- searching -------------------------------------------------------------------------------------------------------


def test_the_only_lead_that_is_found_is_shown_at_once(admin_client: Client) -> None:
    make.lead(search_zipcode="66112")
    lead = make.lead(search_zipcode="66111")

    assert admin_client.get(LEADS, {"q": " 66111 "}).headers["Location"] == page_of(lead)


def test_several_leads_are_listed(admin_client: Client) -> None:
    leads = [make.lead(search_name=f"{first} mustermann").pk for first in ("erika", "max")]
    make.lead(search_name="erika musterfrau")

    assert sorted(listed(admin_client, q="mustermann")) == leads


def test_a_filter_that_leaves_one_lead_lists_it(admin_client: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED)

    assert listed(admin_client, status="FAILED") == listed(admin_client, q=" ") == [lead.pk]


def test_nothing_found_says_what_can_be_searched_for(admin_client: Client) -> None:
    make.lead()

    text = admin_client.get(LEADS, {"q": "nobody@example.org"}).text

    assert "No results for “nobody@example.org”" in text
    assert "correlation ID, e-mail, phone number, zip code or name" in text
    assert "Search without filters" not in text


def test_nothing_found_in_a_filter_leads_to_the_rest(admin_client: Client) -> None:
    lead = make.lead(search_email="erika@example.com")

    text = admin_client.get(LEADS, {"q": "erika@example.com", "status": "REJECTED"}).text

    assert 'href="?q=erika%40example.com">Search without filters' in text
    assert admin_client.get(f"{LEADS}?q=erika%40example.com").headers["Location"] == page_of(lead)


def test_an_empty_list_says_so(admin_client: Client) -> None:
    assert "No data yet" in admin_client.get(LEADS).text
    assert "No leads match these filters" in admin_client.get(LEADS, {"status": "FAILED"}).text


def test_the_search_box_has_the_keyboard_and_a_label(admin_client: Client) -> None:
    page = admin_client.get(LEADS).text

    box = re.search(r"<input[^>]*id=\"searchbar\"[^>]*>", page)
    assert box
    assert "autofocus" in box[0]
    assert '<label class="gateway-unseen" for="searchbar">' in page


def test_a_search_with_nul_is_refused_in_words(admin_client: Client) -> None:
    make.lead()

    assert "Null characters are not allowed" in admin_client.get(LEADS, {"q": "66\0"}).text


def test_events_and_attempts_have_the_same_bar(admin_client: Client) -> None:
    event = make.event(kind=EventKind.DUPLICATE)
    make.attempt(event.lead)

    for url in ("/admin/leads/leadevent/", "/admin/delivery/deliveryattempt/", "/admin/delivery/bulkaction/"):
        page = admin_client.get(url)
        assert page.status_code == 200
        assert 'class="gateway-find"' in page.text
        assert 'form="export"' not in page.text
