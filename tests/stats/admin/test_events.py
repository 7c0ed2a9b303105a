import re
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from leads.models import EventKind, LeadEvent
from tests import make
from tests.stats.admin.pages import EVENTS, HOSTILE, listed, text_of

pytestmark = pytest.mark.django_db


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
    at = "21 Jan 2026 13:00:00 CET"

    text = text_of(reader, EVENTS)

    assert (
        f"{at} – Leads exported – leads: 12; selection: status: Failed; csv ada "
        f"{at} Lead {lead.pk} Attempt 2 finished – HTTP 503; 88 ms; next attempt in 1 min worker "
        f"{at} Lead {lead.pk} Status changed Ready → Failed – worker"
    ) in text


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(admin_client: Client) -> None:
    counts = []
    for rows, shown in ((3, 3), (57, 50)):
        for _ in range(rows):
            make.event()
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client, EVENTS)) == shown
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8


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


# --- personal data ---------------------------------------------------------------------------------------------------


def test_support_sees_addresses_and_numbers_masked(support: Client, admin_client: Client) -> None:
    event = make.event(detail={"reason": "call 0151 12345678", "erika@example.com": [15112345678]})
    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        masked, whole = text_of(support, url), text_of(admin_client, url)

        assert re.findall(r"erika|12345678", masked) == []
        assert "call 0151•••••78; e•••@example.com" in masked
        assert "call 0151 12345678; erika@example.com" in whole
