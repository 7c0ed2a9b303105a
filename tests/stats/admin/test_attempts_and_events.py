"""The lists of attempts and of events, and the page of one record."""

import html
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from leads.models import EventKind, LeadEvent, LeadStatus
from tests import make
from tests.stats.admin.pages import ATTEMPTS, EVENTS, HOSTILE, listed, text_of

pytestmark = pytest.mark.django_db

AT = "21 Jan 2026 13:00:00 CET"


# --- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_are_listed_with_their_results(reader: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, response_status=None, success=False, error_message="connection refused", duration_ms=3)
    make.attempt(lead, finished_at=None)
    make.attempt(lead, response_status=201, duration_ms=5432)

    text = text_of(reader, ATTEMPTS)

    third, second, first = (f"{AT} Lead {lead.pk} {number}" for number in (3, 2, 1))
    assert f"{third} 201 Success 5,432 ms – {second} – Outcome unknown – – {first} – Failed 3 ms connection" in text


def test_attempts_are_found_by_their_lead(admin_client: Client) -> None:
    make.attempt()
    attempt = make.attempt()

    assert listed(admin_client, ATTEMPTS, q=f"#{attempt.lead_id}") == [attempt.pk]
    assert [listed(admin_client, ATTEMPTS, q=term) for term in ("erika", "9" * 10, "🙂")] == [[], [], []]


def test_the_page_of_an_attempt_shows_the_response_as_text_and_json_indented(reader: Client) -> None:
    hostile = make.attempt(response_body=HOSTILE + "x" * 60_000)
    json_response = make.attempt(response_body='{"a":{"b":[1]}}')

    page = reader.get(f"{ATTEMPTS}{hostile.pk}/change/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" + "x" * 60_000 in page
    assert "<script>alert" not in page
    page = reader.get(f"{ATTEMPTS}{json_response.pk}/change/").text
    assert html.escape('{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}') in page


@pytest.mark.parametrize("body", ["", "[" * 60_000, "[" * 900 + "]" * 900, "nul\ufffd", "[1e999]", '"text"'])
def test_a_response_of_any_kind_can_be_shown(admin_client: Client, body: str) -> None:
    assert admin_client.get(f"{ATTEMPTS}{make.attempt(response_body=body).pk}/change/").status_code == 200


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_are_listed_in_words(reader: Client) -> None:
    lead = make.lead()
    LeadEvent.objects.create(
        lead=lead, kind="status", from_status="READY", to_status="FAILED", actor="worker", at=make.NOON
    )
    outcome = {"attempt_no": 2, "response_status": 503, "error": "HTTP 503", "duration_ms": 88, "next_attempt_in_s": 60}
    make.event(lead, EventKind.ATTEMPT_FINISHED, actor="worker", detail=outcome)
    detail = {"format": "csv", "leads": 12, "selection": "status: Failed"}
    LeadEvent.objects.create(lead=None, kind="exported", actor="ada", at=make.NOON, detail=detail)

    text = text_of(reader, EVENTS)

    assert (
        f"{AT} – Leads exported – leads: 12; selection: status: Failed; csv ada "
        f"{AT} Lead {lead.pk} Attempt 2 finished – HTTP 503; 88 ms; next attempt in 1 min worker "
        f"{AT} Lead {lead.pk} Status changed Ready → Failed – worker"
    ) in text


@pytest.mark.parametrize("detail", [[], [1], "text", 5, {"omitted": "text", "attributes": {}, "{}": None, "{0}": [{}]}])
def test_a_detail_of_any_shape_can_be_shown(reader: Client, detail: Any) -> None:
    event = LeadEvent.objects.create(lead=make.lead(), kind="received", actor="webhook", detail=detail)

    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        assert reader.get(url).status_code == 200


def test_an_event_has_its_own_correlation_id_or_that_of_its_lead(reader: Client) -> None:
    lead, own = make.lead(), uuid4()
    pages = {make.event(lead): lead.correlation_id, make.event(lead, correlation_id=own): own}
    pages[LeadEvent.objects.create(kind="exported", actor="ada")] = "–"

    for event, shown in pages.items():
        assert f"Correlation ID {shown} " in text_of(reader, f"{EVENTS}{event.pk}/change/")


def test_a_hostile_event_is_shown_as_text(reader: Client) -> None:
    event = make.event(actor=HOSTILE, detail={"notes": [HOSTILE], HOSTILE: HOSTILE})

    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        page = reader.get(url).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "create"), [(ATTEMPTS, lambda: make.attempt(response_body="an answer")), (EVENTS, make.event)]
)
def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(
    admin_client: Client, url: str, create: Callable[[], Any]
) -> None:
    counts = []
    for rows, shown in ((3, 3), (57, 50)):
        for _ in range(rows):
            create()
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client, url)) == shown
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8
    assert "response_body" not in str(queries.captured_queries)


def test_support_sees_addresses_and_numbers_masked(support: Client, admin_client: Client) -> None:
    attempt = make.attempt(
        response_status=None,
        success=False,
        error_message="call 0151 12345678; erika@example.com",
        response_body='{"mail": "erika@example.com", "n": 15112345678, "text": "0151 12345678"}',
    )
    event = make.event(detail={"reason": "call 0151 12345678", "erika@example.com": [15112345678]})
    for url in (ATTEMPTS, f"{ATTEMPTS}{attempt.pk}/change/", EVENTS, f"{EVENTS}{event.pk}/change/"):
        masked, whole = text_of(support, url), text_of(admin_client, url)

        assert re.findall(r"erika|12345678", masked) == []
        assert "call 0151•••••78; e•••@example.com" in masked
        assert "call 0151 12345678; erika@example.com" in whole
