import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from leads.models import EventKind, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db

EVENTS = "/admin/leads/leadevent/"


@pytest.fixture
def admin_user() -> User:
    """A superuser, without the time that the hash of a password takes."""
    return User.objects.create_superuser("admin")


@pytest.fixture
def staff_client() -> Client:
    """A client of somebody in support, who may look and nothing else."""
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_inboundlead", "view_leadevent"]))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(params=["superuser", "staff"])
def looker(request: pytest.FixtureRequest) -> Client:
    return request.getfixturevalue("admin_client" if request.param == "superuser" else "staff_client")


def listed(client: Client, **query: Any) -> list[int]:
    response = client.get(EVENTS, query)
    assert response.status_code == 200, response.headers.get("Location")
    return [record.pk for record in response.context["cl"].result_list]


def text_of(client: Client, url: str) -> str:
    """Return what a page says, without its markup."""
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


# --- looking, not touching -------------------------------------------------------------------------------------------


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    assert client.get(EVENTS).headers["Location"] == f"/admin/login/?next={EVENTS}"


def test_staff_without_the_permission_sees_nothing(staff_client: Client) -> None:
    User.objects.get().user_permissions.clear()

    assert staff_client.get(EVENTS).status_code == 403


@pytest.mark.parametrize("path", ["add/", "{event}/delete/", "{event}/change/"])
def test_nobody_adds_changes_or_deletes(looker: Client, path: str) -> None:
    event = make.event()
    before = list(LeadEvent.objects.values())

    response = looker.post(EVENTS + path.format(event=event.pk), {"actor": "me", "post": "yes", "_save": "Save"})

    assert response.status_code == 403
    assert list(LeadEvent.objects.values()) == before


def test_nobody_deletes_in_bulk(looker: Client) -> None:
    event = make.event()
    data = {"action": "delete_selected", "_selected_action": [event.pk], "index": "0", "post": "yes"}
    looker.post(EVENTS, data)
    looker.post(EVENTS, data | {"select_across": "1"})

    assert LeadEvent.objects.count() == 1


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_are_listed_in_words(looker: Client) -> None:
    lead = make.lead()
    LeadEvent.objects.create(
        lead=lead, kind="status", from_status="READY", to_status="FAILED", actor="worker", at=make.NOON
    )
    outcome = {
        "attempt_no": 2,
        "response_status": 503,
        "error": "HTTP 503",
        "duration_ms": 88,
        "next_attempt_in_s": 60.0,
    }
    make.event(lead, EventKind.ATTEMPT_FINISHED, actor="worker", detail=outcome)
    detail = {"format": "csv", "leads": 12, "selection": "status: Failed"}
    LeadEvent.objects.create(lead=None, kind="exported", actor="ada", at=make.NOON, detail=detail)
    at = "21 Jan 2026 13:00:00 CET"

    text = text_of(looker, EVENTS)

    assert (
        f"{at} – Leads exported – leads: 12; selection: status: Failed; csv ada "
        f"{at} Lead {lead.pk} Attempt 2 finished – HTTP 503; 88 ms; next attempt in 1 min worker "
        f"{at} Lead {lead.pk} Status changed Ready → Failed – worker"
    ) in text


def test_events_are_filtered_by_kind_and_actor_and_found_by_lead(admin_client: Client) -> None:
    lead = make.lead()
    received = make.event(lead).pk
    mapped = make.event(lead, EventKind.MAPPED, actor="worker").pk
    ordered = make.event(lead, EventKind.REDELIVERED, actor="frau.schneider").pk
    other = make.event().pk

    assert listed(admin_client) == [other, ordered, mapped, received]
    assert listed(admin_client, kind="mapped") == [mapped]
    assert listed(admin_client, actor="person") == [ordered]
    assert listed(admin_client, actor="webhook") == [other, received]
    assert listed(admin_client, q=str(lead.pk)) == [ordered, mapped, received]
    assert [listed(admin_client, q=term) for term in ("frau.schneider", "9" * 10, "🙂")] == [[], [], []]


def test_the_list_takes_as_many_queries_however_long_it_is(admin_client: Client) -> None:
    counts = []
    for rows, shown in ((3, 3), (57, 50)):
        for _ in range(rows):
            make.event()
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client)) == shown
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8


@pytest.mark.parametrize("detail", [[], [1], "text", 5, {"omitted": "text", "attributes": {}, "{}": None, "{0}": [{}]}])
def test_a_detail_of_any_shape_can_be_shown(looker: Client, detail: Any) -> None:
    event = LeadEvent.objects.create(lead=make.lead(), kind="received", actor="webhook", detail=detail)

    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        assert looker.get(url).status_code == 200


def test_a_hostile_event_stays_text(looker: Client) -> None:
    evil = "<script>alert(1)</script>\u202e"
    event = make.event(actor=evil, detail={"notes": [evil], evil: evil})

    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        page = looker.get(url).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page


# --- personal data ---------------------------------------------------------------------------------------------------


def test_support_sees_no_address_and_no_number(staff_client: Client, admin_client: Client) -> None:
    event = make.event(detail={"reason": "call 0151 12345678", "erika@example.com": [15112345678]})
    for url in (EVENTS, f"{EVENTS}{event.pk}/change/"):
        masked, whole = text_of(staff_client, url), text_of(admin_client, url)

        assert re.findall(r"erika|12345678", masked) == []
        assert "call 0151•••••78; e•••@example.com" in masked
        assert "call 0151 12345678; erika@example.com" in whole
