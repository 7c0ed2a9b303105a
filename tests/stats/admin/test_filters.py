from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.test import Client

from leads.models import EventKind, LeadStatus
from stats.admin import filters
from tests import make
from tests.stats.admin.pages import ATTEMPTS, EVENTS, HOSTILE, LEADS, listed
from tests.web_server import WebServer

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")


# --- leads -----------------------------------------------------------------------------------------------------------


def test_leads_are_filtered_by_status_and_reason(admin_client: Client) -> None:
    leads = {str(status): make.lead(status=status).pk for status in LeadStatus}
    not_owner = make.lead(status="REJECTED", rejection_reason="NOT_HOMEOWNER").pk

    found = {status: listed(admin_client, status=status) for status in leads}
    assert found == {status: [lead] for status, lead in leads.items()} | {"REJECTED": [not_owner, leads["REJECTED"]]}
    assert listed(admin_client, reason="NOT_HOMEOWNER") == [not_owner]


def test_leads_are_filtered_by_situation(admin_client: Client) -> None:
    waiting = make.lead(status=LeadStatus.FAILED)
    stopped = make.lead(status=LeadStatus.FAILED, next_attempt_at=None)
    failed = make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, resolved_at=make.NOON)
    for status in (LeadStatus.RECEIVED, LeadStatus.READY, LeadStatus.DELIVERED, LeadStatus.REJECTED):
        make.lead(status=status)

    assert listed(admin_client, situation="waiting") == [waiting.pk]
    assert listed(admin_client, situation="attention") == [failed.pk, stopped.pk]


def test_leads_are_filtered_by_an_attempt_whose_outcome_is_unknown(admin_client: Client) -> None:
    unknown = make.attempt(finished_at=None).lead
    make.attempt(unknown)
    make.attempt(unknown, finished_at=None)
    make.attempt()
    make.lead()

    assert listed(admin_client, situation="unknown") == [unknown.pk]
    assert listed(admin_client, situation="unknown", status="DELIVERED") == []


def test_leads_that_were_received_more_than_once_are_listed_once(web: WebServer, admin_client: Client) -> None:
    payload = make.payload()
    for _ in range(3):
        response = web.post(payload)
    make.lead()

    assert listed(admin_client, situation="duplicates") == [response.json()["lead_id"]]


ANSWERS = ("200", "404", "422", "503", "timeout", "connection_refused", None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("503", ["503"]),
        ("timeout", ["timeout"]),
        ("4xx", ["404", "422"]),
        ("5xx", ["503"]),
        ("none", ["timeout", "connection_refused"]),
        ("50", []),
        ("' OR 1=1", []),
        ("\0", []),
    ],
)
def test_leads_are_filtered_by_the_last_response(admin_client: Client, answer: str, expected: list[str]) -> None:
    leads = {each: make.lead(status=LeadStatus.FAILED, last_answer=each).pk for each in ANSWERS}

    assert set(listed(admin_client, answer=answer)) == {leads[each] for each in expected}


def test_the_filter_offers_the_responses_that_occur_and_the_requested_one(admin_client: Client) -> None:
    for answer in (*ANSWERS, "503", "<b>"):
        make.lead(status=LeadStatus.FAILED, last_answer=answer)

    text = admin_client.get(LEADS, {"answer": "418"}).text

    assert text.count('<option value="503">HTTP 503</option>') == 1
    assert '<option value="timeout">timed out</option>' in text
    assert '<option value="&lt;b&gt;">&lt;b&gt;</option>' in text
    assert '<option value="418" selected>HTTP 418</option>' in text
    assert '<option value="418"' not in admin_client.get(LEADS).text


# --- days ------------------------------------------------------------------------------------------------------------


def test_days_are_local_days(admin_client: Client) -> None:
    midnight = datetime(2026, 3, 29, tzinfo=BERLIN)  # the day on which summer time begins
    times = [midnight + timedelta(hours=hours) for hours in (-1, 0, 1, 22, 24)]
    before, first, _, last, after = (make.lead(received_at=at).pk for at in times)

    with time_machine.travel(datetime(2026, 3, 29, 21, 30, tzinfo=UTC), tick=False):
        assert listed(admin_client, received="today") == [after, last, last - 1, first]
        assert listed(admin_client, received="yesterday") == [before]
    day = {"from": "2026-03-29", "to": "2026-03-29"}
    assert listed(admin_client, **day) == [last, last - 1, first]
    assert listed(admin_client, received="days", **day) == [last, last - 1, first]


def test_the_day_on_which_summer_time_ends_has_25_hours(admin_client: Client) -> None:
    ends = datetime(2026, 10, 25, 23, 0, tzinfo=UTC)
    inside, outside = (make.lead(received_at=ends + timedelta(seconds=seconds)).pk for seconds in (-1, 0))

    assert listed(admin_client, to="2026-10-25") == [inside]
    assert listed(admin_client, **{"from": "2026-10-26"}) == [outside]


def test_leads_are_filtered_by_the_last_days(admin_client: Client) -> None:
    with time_machine.travel(datetime(2026, 1, 21, 12, 0, tzinfo=BERLIN), tick=False):
        midnight = datetime(2026, 1, 21, tzinfo=BERLIN)
        ages = [-1, 0, 1, 6, 29]
        today, yesterday, before, last_week, long_ago = (
            make.lead(received_at=midnight - timedelta(days=days, seconds=1)).pk for days in ages
        )

        assert listed(admin_client, received="today") == [today]
        assert listed(admin_client, received="yesterday") == [yesterday]
        assert listed(admin_client, received="week") == [today, yesterday, before]
        assert listed(admin_client, received="month") == [today, yesterday, before, last_week]
        assert listed(admin_client) == [today, yesterday, before, last_week, long_ago]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        *(
            ({"from": day}, "Enter valid dates.")
            for day in ("2026-02-30", "0001-01-01", "\0", "9" * 5000, "31.01.2026")
        ),
        ({"to": "9999-12-31"}, "Enter valid dates."),
        ({"from": "2026-01-22", "to": "2026-01-20"}, "The first day is after the last day."),
    ],
)
def test_invalid_days_list_no_leads_with_a_message(admin_client: Client, query: dict[str, str], problem: str) -> None:
    make.lead(received_at=make.NOON)

    response = admin_client.get(LEADS, query)

    assert response.context["cl"].result_count == 0
    assert f"{problem} No leads are shown." in response.text


def test_a_choice_overrides_the_range_of_days(admin_client: Client) -> None:
    lead = make.lead()

    assert listed(admin_client, received="days", **{"from": "", "to": ""}) == [lead.pk]
    assert listed(admin_client, received="today", **{"from": "1999-01-01", "to": "1999-01-01"}) == [lead.pk]


# --- the bar and the URL ---------------------------------------------------------------------------------------------


def test_the_bar_shows_the_request_as_text(admin_client: Client) -> None:
    text = admin_client.get(LEADS, {"status": "FAILED", "q": "muster", "from": "2026-01-20", "to": "2026-01-22"}).text

    assert '<option value="FAILED" selected>' in text
    assert 'value="muster"' in text
    assert '<option value="days" selected>' in text
    assert 'name="from" value="2026-01-20"' in text
    assert 'name="to" value="2026-01-22"' in text
    assert "<script>alert" not in admin_client.get(LEADS, dict.fromkeys(("q", "answer", "from"), f'">{HOSTILE}')).text


@pytest.mark.parametrize("parameter", ["q", "status", "situation", "reason", "received", "answer", "p", "o", "all"])
@pytest.mark.parametrize("value", ["\0", "9" * 5000, "🙂"])
def test_no_value_in_a_url_breaks_the_list(admin_client: Client, parameter: str, value: str) -> None:
    make.lead()

    assert admin_client.get(LEADS, {parameter: value}).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["search_email=%00", "search_email=x", "raw_payload__email=x", "claim_token=x", "events__actor=x", "made=1"],
)
def test_a_url_cannot_filter_by_other_columns(admin_client: Client, query: str) -> None:
    assert admin_client.get(f"{LEADS}?{query}").status_code == 400


def test_a_selection_is_stored_without_the_search_text(admin_client: Client) -> None:
    def stored(**query: Any) -> str:
        return filters.selection(admin_client.get(LEADS, query).context["cl"])

    days = {"from": "2026-01-20", "to": "2026-01-22"}
    assert stored() == "all=1"
    assert stored(q="erika@example.com", status="FAILED") == "status=FAILED&search=1"
    assert stored(situation="attention", answer="503") == "situation=attention&answer=503"
    assert stored(received="today") == "received=today"
    assert stored(**days) == "received=days&from=2026-01-20&to=2026-01-22"
    assert stored(**{"from": "nonsense"}) == "received=days"
    assert stored(to="2026-01-22") == "received=days&to=2026-01-22"


# --- attempts and events ---------------------------------------------------------------------------------------------


def test_attempts_are_filtered_by_outcome_and_response(admin_client: Client) -> None:
    attempts = {status: make.attempt(response_status=status).pk for status in (200, 302, 404, 500)}
    unknown = make.attempt(finished_at=None).pk
    by_specification = make.attempt(finished_at=None, success=True).pk

    assert listed(admin_client, ATTEMPTS, outcome="success") == [by_specification, attempts[200]]
    assert listed(admin_client, ATTEMPTS, outcome="failed") == [attempts[status] for status in (500, 404, 302)]
    assert listed(admin_client, ATTEMPTS, outcome="unknown") == [unknown]
    assert listed(admin_client, ATTEMPTS, answer="none") == [by_specification, unknown]
    assert [listed(admin_client, ATTEMPTS, answer=f"{n}xx") for n in range(1, 6)] == [
        *([], [attempts[200]], [attempts[302]], [attempts[404]], [attempts[500]])
    ]


def test_events_are_filtered_by_kind_and_actor_and_found_by_lead(admin_client: Client) -> None:
    lead = make.lead()
    received = make.event(lead).pk
    mapped = make.event(lead, EventKind.MAPPED, actor="worker").pk
    redelivered = make.event(lead, EventKind.REDELIVERED, actor="frau.schneider").pk
    other = make.event().pk

    assert listed(admin_client, EVENTS) == [other, redelivered, mapped, received]
    assert listed(admin_client, EVENTS, kind="mapped") == [mapped]
    assert listed(admin_client, EVENTS, actor="person") == [redelivered]
    assert listed(admin_client, EVENTS, actor="webhook") == [other, received]
    assert listed(admin_client, EVENTS, q=str(lead.pk)) == [redelivered, mapped, received]
    assert [listed(admin_client, EVENTS, q=term) for term in ("frau.schneider", "9" * 10, "🙂")] == [[], [], []]
