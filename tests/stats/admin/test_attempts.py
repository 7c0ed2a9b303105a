import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

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
    attempt = make.attempt(error_message="connection refused")

    assert staff_client.get(ATTEMPTS).status_code == 403
    assert "connection refused" not in text_of(staff_client, f"{LEADS}{attempt.lead_id}/change/")


# --- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_are_listed_with_what_came_of_them(looker: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, response_status=None, success=False, error_message="connection refused", duration_ms=3)
    make.attempt(lead, finished_at=None)
    make.attempt(lead, response_status=201, duration_ms=5432)
    at = "2026-01-21 12:00:00.000"

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


def test_the_list_takes_as_many_queries_however_long_it_is(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make.attempt()
    with django_assert_num_queries(4):  # the session, its user, the count, the rows
        assert len(listed(admin_client)) == 3
    for _ in range(57):
        make.attempt()
    with django_assert_num_queries(4) as queries:
        assert len(listed(admin_client)) == 50
    assert "response_body" not in str(queries.captured_queries)


def test_an_attempts_page_shows_the_answer_as_text(looker: Client) -> None:
    attempt = make.attempt(response_body="<script>alert(1)</script>\u202e" + "x" * 60_000)

    page = looker.get(f"{ATTEMPTS}{attempt.pk}/change/").text

    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" + "x" * 60_000 in page
    assert "<script>alert" not in page


# --- on the leads' pages ---------------------------------------------------------------------------------------------


def test_a_leads_page_shows_its_attempts_in_order(looker: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, attempt_no=2, response_status=200, response_body='{"ok": true}')
    make.attempt(lead, attempt_no=1, error_message="HTTP 503", duration_ms=1234)
    make.attempt(lead, attempt_no=3, finished_at=None)
    make.attempt(error_message="of another lead")
    at = "2026-01-21 12:00:00.000"

    text = text_of(looker, f"{LEADS}{lead.pk}/change/")

    assert f"1 {at} 1,234 ms 503 Failed HTTP 503 – 2 {at} 120 ms 200 Success – 12 characters {{" in text
    assert f"3 {at} – – Outcome unknown – –" in text
    assert "of another lead" not in text


def test_a_leads_page_says_where_it_stands(looker: Client) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.attempt(lead, response_status=201)

    text = text_of(looker, f"{LEADS}{lead.pk}/change/")

    assert f"Where it stands: Lead {lead.pk} was delivered by attempt 1 at 2026-01-21T12:00:00Z." in text


def test_a_leads_page_takes_as_many_queries_however_many_attempts(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    lead = make.lead(status=LeadStatus.FAILED)
    for count in (3, 60):
        for _ in range(count - lead.attempts.count()):
            make.attempt(lead)
            make.event(lead)
        # the session, its user, the lead, where it stands, the attempts, the trail's length, the trail
        with django_assert_num_queries(7):
            assert admin_client.get(f"{LEADS}{lead.pk}/change/").status_code == 200


def test_leads_are_listed_with_their_number_of_attempts(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    lead = make.lead(status=LeadStatus.FAILED)
    for _ in range(7):
        make.attempt(lead)
    make.lead()
    with django_assert_num_queries(4):
        response = admin_client.get(LEADS)

    assert re.findall(r'class="field-attempts_made">(\d+)<', response.text) == ["0", "7"]


def test_leads_are_filtered_by_an_attempt_whose_outcome_is_unknown(admin_client: Client) -> None:
    unknown = make.attempt(finished_at=None).lead
    make.attempt(unknown)
    make.attempt()
    make.lead()

    assert listed(admin_client, LEADS, attempts="unknown") == [unknown.pk]
    assert listed(admin_client, LEADS, attempts="unknown", situation="attention") == []
