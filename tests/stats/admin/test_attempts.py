import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from delivery.models import DeliveryAttempt
from leads.models import LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"
ATTEMPTS = "/admin/delivery/deliveryattempt/"


@pytest.fixture
def admin_user() -> User:
    """A superuser, without the time that the hash of a password takes."""
    return User.objects.create_superuser("admin")


@pytest.fixture
def staff_client() -> Client:
    """A client of somebody in support, who may look and nothing else."""
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_inboundlead", "view_deliveryattempt"]))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(params=["superuser", "staff"])
def looker(request: pytest.FixtureRequest) -> Client:
    return request.getfixturevalue("admin_client" if request.param == "superuser" else "staff_client")


def listed(client: Client, url: str = ATTEMPTS, **query: Any) -> list[int]:
    response = client.get(url, query)
    assert response.status_code == 200, response.headers.get("Location")
    return [record.pk for record in response.context["cl"].result_list]


def text_of(client: Client, url: str) -> str:
    """Return what a page says, without its markup."""
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


# --- looking, not touching -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["add/", "{pk}/delete/"])
def test_nobody_adds_or_deletes(looker: Client, path: str, method: str) -> None:
    attempt = make.attempt(finished_at=None)
    before = list(DeliveryAttempt.objects.values())

    response = getattr(looker, method)(ATTEMPTS + path.format(pk=attempt.pk))

    assert response.status_code == 403
    assert list(DeliveryAttempt.objects.values()) == before


def test_nobody_writes_an_outcome(looker: Client) -> None:
    attempt = make.attempt(finished_at=None)  # the database itself would allow it once
    before = list(DeliveryAttempt.objects.values())
    outcome = {"success": "on", "response_status": "200", "_save": "Save"}
    inline = {f"attempts-{name}_FORMS": 1 for name in ("TOTAL", "INITIAL")}
    inline |= {"attempts-0-id": attempt.pk, "attempts-0-success": "on", "attempts-0-DELETE": "on"}

    direct = looker.post(f"{ATTEMPTS}{attempt.pk}/change/", outcome)
    by_lead = looker.post(f"{LEADS}{attempt.lead_id}/change/", inline)

    assert [direct.status_code, by_lead.status_code] == [403, 403]
    assert list(DeliveryAttempt.objects.values()) == before


def test_nobody_deletes_in_bulk(looker: Client) -> None:
    attempt = make.attempt()
    data = {"action": "delete_selected", "_selected_action": [attempt.pk], "index": "0", "post": "yes"}

    looker.post(ATTEMPTS, data)

    assert DeliveryAttempt.objects.filter(pk=attempt.pk).exists()


def test_staff_who_may_see_leads_but_no_attempts_sees_no_attempts(staff_client: Client) -> None:
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_deliveryattempt"))

    assert staff_client.get(ATTEMPTS).status_code == 403


# --- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_are_listed_with_what_came_of_them(looker: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, response_status=None, success=False, error_message="connection refused", duration_ms=3)
    make.attempt(lead, finished_at=None)
    make.attempt(lead, response_status=201, duration_ms=5432)
    at = "21 Jan 2026 13:00:00 CET"

    text = text_of(looker, ATTEMPTS)

    third, second, first = (f"{at} Lead {lead.pk} {number}" for number in (3, 2, 1))
    assert f"{third} 201 Success 5,432 ms – {second} – Outcome unknown – – {first} – Failed 3 ms connection" in text


def test_attempts_are_filtered_by_outcome(admin_client: Client) -> None:
    success, failed, unknown = (
        make.attempt(response_status=200).pk,
        make.attempt().pk,
        make.attempt(finished_at=None).pk,
    )
    seed = make.attempt(finished_at=None, success=True).pk  # by the seed's columns alone

    assert listed(admin_client, outcome="success") == [seed, success]
    assert listed(admin_client, outcome="failed") == [failed]
    assert listed(admin_client, outcome="unknown") == [unknown]


@pytest.mark.parametrize(("answer", "status"), [("1xx", 199), ("2xx", 200), ("3xx", 301), ("4xx", 499), ("5xx", 500)])
def test_attempts_are_filtered_by_the_class_of_the_answer(admin_client: Client, answer: str, status: int) -> None:
    attempts = {each: make.attempt(response_status=each).pk for each in (199, 200, 301, 499, 500, None)}

    assert listed(admin_client, answer=answer) == [attempts[status]]
    assert listed(admin_client, answer="none") == [attempts[None]]


def test_attempts_are_found_by_their_lead(admin_client: Client) -> None:
    make.attempt()
    attempt = make.attempt()

    assert listed(admin_client, q=f"#{attempt.lead_id}") == [attempt.pk]
    assert [listed(admin_client, q=term) for term in ("erika", "9" * 10, "🙂")] == [[], [], []]


def test_the_list_takes_as_many_queries_however_long_it_is(admin_client: Client) -> None:
    counts = []
    for rows, shown in ((3, 3), (57, 50)):
        for _ in range(rows):
            make.attempt(response_body="an answer")
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client)) == shown
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8
    assert "response_body" not in str(queries.captured_queries)


def test_an_attempts_page_shows_the_answer_as_text(looker: Client) -> None:
    attempt = make.attempt(response_body="<script>alert(1)</script>\u202e" + "x" * 60_000)

    page = looker.get(f"{ATTEMPTS}{attempt.pk}/change/").text

    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" + "x" * 60_000 in page
    assert "<script>alert" not in page


def test_an_attempts_page_shows_json_indented(looker: Client) -> None:
    attempt = make.attempt(response_body='{"a":{"b":[1]}}')

    page = looker.get(f"{ATTEMPTS}{attempt.pk}/change/").text

    assert html.escape('{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}') in page


@pytest.mark.parametrize("body", ["", "[" * 60_000, "[" * 900 + "]" * 900, "{" * 10, "nul\ufffd", "[1e999]", '"text"'])
def test_an_answer_of_any_kind_can_be_shown(looker: Client, body: str) -> None:
    assert looker.get(f"{ATTEMPTS}{make.attempt(response_body=body).pk}/change/").status_code == 200


# --- personal data ---------------------------------------------------------------------------------------------------


def test_support_sees_no_address_and_no_number(staff_client: Client, admin_client: Client) -> None:
    attempt = make.attempt(
        response_status=None,
        success=False,
        error_message="erika@example.com and 0151 12345678 are unknown",
        response_body='{"mail": "erika@example.com", "n": 15112345678, "text": "0151 12345678"}',
    )
    for url in (ATTEMPTS, f"{ATTEMPTS}{attempt.pk}/change/"):
        masked, whole = text_of(staff_client, url), text_of(admin_client, url)

        assert re.findall(r"erika|12345678", masked) == []
        assert "e•••@example.com and 0151•••••78 are unknown" in masked
        assert "erika@example.com and 0151 12345678 are unknown" in whole
