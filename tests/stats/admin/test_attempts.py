import html
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from leads.models import LeadStatus
from tests import make
from tests.stats.admin.pages import ATTEMPTS, HOSTILE, listed, text_of

pytestmark = pytest.mark.django_db


# --- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_are_listed_with_their_results(reader: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, response_status=None, success=False, error_message="connection refused", duration_ms=3)
    make.attempt(lead, finished_at=None)
    make.attempt(lead, response_status=201, duration_ms=5432)
    at = "21 Jan 2026 13:00:00 CET"

    text = text_of(reader, ATTEMPTS)

    third, second, first = (f"{at} Lead {lead.pk} {number}" for number in (3, 2, 1))
    assert f"{third} 201 Success 5,432 ms – {second} – Outcome unknown – – {first} – Failed 3 ms connection" in text


def test_attempts_are_found_by_their_lead(admin_client: Client) -> None:
    make.attempt()
    attempt = make.attempt()

    assert listed(admin_client, ATTEMPTS, q=f"#{attempt.lead_id}") == [attempt.pk]
    assert [listed(admin_client, ATTEMPTS, q=term) for term in ("erika", "9" * 10, "🙂")] == [[], [], []]


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(admin_client: Client) -> None:
    counts = []
    for rows, shown in ((3, 3), (57, 50)):
        for _ in range(rows):
            make.attempt(response_body="an answer")
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client, ATTEMPTS)) == shown
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8
    assert "response_body" not in str(queries.captured_queries)


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


# --- personal data ---------------------------------------------------------------------------------------------------


def test_support_sees_addresses_and_numbers_masked(support: Client, admin_client: Client) -> None:
    attempt = make.attempt(
        response_status=None,
        success=False,
        error_message="erika@example.com and 0151 12345678 are unknown",
        response_body='{"mail": "erika@example.com", "n": 15112345678, "text": "0151 12345678"}',
    )
    for url in (ATTEMPTS, f"{ATTEMPTS}{attempt.pk}/change/"):
        masked, whole = text_of(support, url), text_of(admin_client, url)

        assert re.findall(r"erika|12345678", masked) == []
        assert "e•••@example.com and 0151•••••78 are unknown" in masked
        assert "erika@example.com and 0151 12345678 are unknown" in whole
