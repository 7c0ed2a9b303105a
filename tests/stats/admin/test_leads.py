"""The list of leads, its rows and its search."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from leads.models import InboundLead, LeadStatus
from tests import make
from tests.stats.admin.pages import ATTEMPTS, BULK_ACTIONS, EVENTS, HOSTILE, LEADS, listed, text_in

pytestmark = pytest.mark.django_db


def page_of(lead: InboundLead) -> str:
    return reverse("admin:leads_inboundlead_change", args=[lead.pk])


def rows_of(client: Client, **query: Any) -> list[str]:
    """Return the text of each row of the list."""
    page = client.get(LEADS, query).text
    rows = re.findall(r'<tr class="data-row.*?</tr>', page, re.DOTALL)
    return [text_in(row) for row in rows]


# --- the list --------------------------------------------------------------------------------------------------------


def test_leads_are_listed_newest_first(admin_client: Client) -> None:
    old, new, middle = (make.lead(received_at=make.NOON + timedelta(hours=hours)) for hours in (0, 2, 1))
    same = make.lead(received_at=new.received_at)

    assert listed(admin_client) == [same.pk, new.pk, middle.pk, old.pk]


def test_a_row_has_the_data_that_support_needs(admin_client: Client) -> None:
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


def test_a_row_has_the_time_of_the_delivery_or_the_next_attempt(admin_client: Client) -> None:
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


def test_every_status_has_a_badge_with_a_colour(admin_client: Client) -> None:
    for status in LeadStatus:
        make.lead(status=status)
    page = admin_client.get(LEADS).text
    stylesheet = b"".join(admin_client.get("/static/stats/gateway.css").streaming_content).decode()

    for status in LeadStatus:
        assert f'<span class="gateway-badge gateway-{status.lower()}">{status.label}</span>' in page
        assert status == LeadStatus.RECEIVED or re.search(rf"\.gateway-{status.lower()} {{\s", stylesheet)


def test_a_row_links_to_the_lead_and_keeps_the_filters(admin_client: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED)

    page = admin_client.get(LEADS, {"status": "FAILED", "p": "1"}).text

    assert f'href="{page_of(lead)}?_changelist_filters=' in page
    assert "status%3DFAILED" in page


def test_a_hostile_lead_is_shown_as_text(admin_client: Client) -> None:
    texts = dict.fromkeys(("search_name", "search_email", "rejection_reason", "last_answer"), HOSTILE)
    make.lead(search_zipcode="<b>", **texts)

    page = admin_client.get(LEADS).text

    assert "<script>alert" not in page.lower()
    assert "<b>" not in page
    assert "\u202e" not in re.sub(r'"[^"]*"', "", page)  # in an attribute it turns nothing around


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(admin_client: Client) -> None:
    taken = []
    for number in (10, 50):
        for _ in range(number):
            make.attempt()
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client)) == min(number, 25)
        taken.append(len(queries))

    # session, user, responses in the filter, count, rows, their attempts, sidebar, delivery control
    assert taken == [8, 8]
    assert not [query for query in queries.captured_queries if "payload" in query["sql"].replace("payload_hash", "")]


# --- searching -------------------------------------------------------------------------------------------------------


def test_a_search_that_finds_one_lead_opens_its_page_also_when_the_text_is_masked(support: Client) -> None:
    make.lead(search_email="max@example.com")
    lead = make.lead(search_email="erika@example.com")

    assert support.get(LEADS, {"q": " erika@example.com "}).headers["Location"] == page_of(lead)


def test_all_other_results_are_listed(admin_client: Client) -> None:
    erika, max_ = (make.lead(search_name=f"{first} mustermann").pk for first in ("erika", "max"))
    other = make.lead(search_name="erika musterfrau", status=LeadStatus.FAILED).pk

    assert listed(admin_client, q="mustermann") == [max_, erika]
    assert listed(admin_client, status="FAILED") == [other]
    assert listed(admin_client, q=" ") == [other, max_, erika]


def test_an_empty_list_explains_itself(admin_client: Client) -> None:
    assert "No data yet" in admin_client.get(LEADS).text
    make.lead()
    assert "No leads match these filters" in admin_client.get(LEADS, {"status": "FAILED"}).text

    text = admin_client.get(LEADS, {"q": "x@example.org"}).text
    assert "No results for “x@example.org”" in text
    assert "correlation ID, e-mail, phone number, zip code or name" in text
    assert "Search without filters" not in text

    text = admin_client.get(LEADS, {"q": "x@example.org", "status": "REJECTED"}).text
    assert 'href="?q=x%40example.org">Search without filters' in text


def test_every_list_has_a_labelled_search_box_with_focus_and_only_leads_an_export(admin_client: Client) -> None:
    attempt = make.attempt()
    make.event(attempt.lead)

    for url in (LEADS, EVENTS, ATTEMPTS, BULK_ACTIONS):
        page = admin_client.get(url)
        assert page.status_code == 200
        box = re.search(r"<input[^>]*id=\"searchbar\"[^>]*>", page.text)
        assert box is not None
        assert "autofocus" in box[0]
        assert '<label class="gateway-unseen" for="searchbar">' in page.text
        assert ('form="export"' in page.text) == (url == LEADS)
