"""The admin in German: what is stored in English is told in German, and what is not a text of Django's is ours."""

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from django.utils.translation import override

from delivery.models import BulkAction, BulkActionKind
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.text.filters import told
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture
def german() -> Client:
    """A client of somebody who may do everything and reads German."""
    client = Client(headers={"Accept-Language": "de-DE"})
    client.force_login(User.objects.create_superuser("admin"))
    return client


def text_of(client: Client, url: str, status: int = 200) -> str:
    """Return what a page says, without its markup."""
    response = client.get(url)
    assert response.status_code == status
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def failed(answer: str) -> InboundLead:
    return make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=answer)


SELECTIONS = [
    ("all", "alle"),
    ("Status: Permanently failed; a search", "Status: Endgültig fehlgeschlagen; eine Suche"),
    ("Received: From – to (2026-11-01 – …)", "Eingegangen: Von – bis (2026-11-01 – …)"),
    ("Last answer: timed out after 30 s", "Letzte Antwort: Zeitüberschreitung nach 30 s"),
    ("lead 7", "Lead 7"),
    ("leads 7, 8", "Leads 7, 8"),
    ("1,200 leads, chosen one by one", "1,200 einzeln gewählte Leads"),
]


@pytest.mark.parametrize(("stored", "german"), SELECTIONS)
def test_how_leads_were_chosen_is_told_in_the_readers_language(stored: str, german: str) -> None:
    with override("de"):
        assert told(stored) == german
    with override("en"):
        assert told(stored) == stored


@pytest.mark.parametrize("stored", ["", ";", ": ", "ßs: x", "whatever: it is (or not); else"])
def test_a_selection_that_is_not_known_stays_as_it_is(stored: str) -> None:
    with override("de"):
        assert told(stored) == stored


def test_an_order_tells_its_selection_in_german(german: Client) -> None:
    order = BulkAction.objects.create(
        kind=BulkActionKind.RESOLVE,
        actor="otto",
        reason="ok",
        selection="Situation: Needs attention",
        created_at=make.NOON,
    )
    detail = {"kind": "resolve", "selection": order.selection}
    LeadEvent.objects.create(lead=None, kind=EventKind.BULK_ACTION_CREATED, actor="otto", detail=detail)

    for url in (
        "/admin/delivery/bulkaction/",
        f"/admin/delivery/bulkaction/{order.pk}/change/",
        "/admin/leads/leadevent/",
    ):
        text = text_of(german, url)
        assert "Situation: Braucht Aufmerksamkeit" in text
        assert "Actor" not in text


def test_an_answer_that_was_none_is_told_in_german(german: Client) -> None:
    failed("connection refused")

    for url in (LEADS, "/admin/"):
        text = text_of(german, url)
        assert "Verbindung abgelehnt" in text
        assert "connection refused" not in text


def test_the_trail_names_such_an_answer_in_english(german: Client) -> None:
    failed("connection refused")

    german.post(f"{LEADS}export/", {"format": "csv", "query": "answer=connection refused"}).getvalue()  # type: ignore[attr-defined]

    assert LeadEvent.objects.get(kind="exported").detail["selection"] == "Last answer: connection refused"


def test_days_are_declined(german: Client) -> None:
    lead = make.lead(next_attempt_at=timezone.now() + timedelta(days=2, minutes=1))

    assert "Prüfung ist in 2 Tagen fällig" in text_of(german, f"{LEADS}{lead.pk}/change/")


def test_a_page_that_there_is_not_is_told_in_german(german: Client) -> None:
    assert "Unter dieser Adresse gibt es nichts." in text_of(german, f"{LEADS}999/change/", 404)


def test_what_is_not_allowed_is_told_in_german() -> None:
    client = Client(headers={"Accept-Language": "de"})
    user = User.objects.create_user("support", is_staff=True)
    user.groups.add(Group.objects.get(name="Support"))
    client.force_login(user)

    assert "Ihre Rollen erlauben das nicht." in text_of(client, "/admin/auth/user/", 403)


def test_records_are_named_in_german(german: Client) -> None:
    attempt = make.attempt(make.lead(status=LeadStatus.FAILED))

    text = text_of(german, f"/admin/delivery/deliveryattempt/{attempt.pk}/change/")

    assert f"Zustellung Zustellversuche Versuch 1 von Lead {attempt.lead_id}" in text.replace("chevron_right ", "")


def test_the_columns_of_events_are_named_in_german(german: Client) -> None:
    event = make.event(kind=EventKind.REDELIVERED, actor="otto")

    for url in ("/admin/leads/leadevent/", f"/admin/leads/leadevent/{event.pk}/change/"):
        assert "Actor" not in text_of(german, url)
