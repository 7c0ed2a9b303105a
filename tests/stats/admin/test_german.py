"""The admin in German: stored codes, columns and pages."""

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
from stats.text.filters import selection_text
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
    ("all=1", "All leads", "Alle Leads"),
    (
        "status=PERMANENTLY_FAILED&search=1",
        "Status: Permanently failed; Search",
        "Status: Endgültig fehlgeschlagen; Suche",
    ),
    ("received=days&from=2026-11-01", "Received: 2026-11-01 – …", "Eingegangen: 2026-11-01 – …"),
    ("answer=timeout", "Last response: timed out", "Letzte Antwort: Zeitüberschreitung"),
    ("ids=7", "Lead 7", "Lead 7"),
    ("ids=7,8", "Leads 7, 8", "Leads 7, 8"),
    ("count=1200", "1,200 leads, selected one by one", "1.200 einzeln ausgewählte Leads"),
]


@pytest.mark.parametrize(("stored", "english", "german"), SELECTIONS)
def test_a_selection_is_shown_in_the_readers_language(stored: str, english: str, german: str) -> None:
    with override("en"):
        assert selection_text(stored) == english
    with override("de"):
        assert selection_text(stored) == german


@pytest.mark.parametrize("stored", ["", ";", "all leads", "ßs: x"])
def test_a_selection_without_parameters_is_shown_as_stored(stored: str) -> None:
    assert selection_text(stored) == stored


def test_a_bulk_action_shows_its_selection_in_german(german: Client) -> None:
    order = BulkAction.objects.create(
        kind=BulkActionKind.RESOLVE,
        actor="otto",
        reason="ok",
        selection="situation=attention",
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


def test_an_error_is_shown_in_german(german: Client) -> None:
    failed("connection_refused")

    for url in (LEADS, "/admin/"):
        text = text_of(german, url)
        assert "Verbindung abgelehnt" in text
        assert "connection refused" not in text


def test_the_stored_selection_is_a_code(german: Client) -> None:
    failed("connection_refused")

    german.post(f"{LEADS}export/", {"format": "csv", "query": "answer=connection_refused"}).getvalue()  # type: ignore[attr-defined]

    assert LeadEvent.objects.get(kind="exported").detail["selection"] == "answer=connection_refused"


def test_days_are_declined(german: Client) -> None:
    lead = make.lead(next_attempt_at=timezone.now() + timedelta(days=2, minutes=1))

    assert "Prüfung ist in 2 Tagen fällig" in text_of(german, f"{LEADS}{lead.pk}/change/")


def test_a_missing_page_is_explained_in_german(german: Client) -> None:
    assert "Diese Seite gibt es nicht." in text_of(german, f"{LEADS}999/change/", 404)


def test_a_forbidden_page_is_explained_in_german() -> None:
    client = Client(headers={"Accept-Language": "de"})
    user = User.objects.create_user("support", is_staff=True)
    user.groups.add(Group.objects.get(name="Support"))
    client.force_login(user)

    assert "Sie haben keine Berechtigung für diese Seite." in text_of(client, "/admin/auth/user/", 403)


def test_records_are_named_in_german(german: Client) -> None:
    attempt = make.attempt(make.lead(status=LeadStatus.FAILED))

    text = text_of(german, f"/admin/delivery/deliveryattempt/{attempt.pk}/change/")

    assert f"Zustellung Zustellversuche Versuch 1 von Lead {attempt.lead_id}" in text.replace("chevron_right ", "")


def test_the_columns_of_events_are_named_in_german(german: Client) -> None:
    event = make.event(kind=EventKind.REDELIVERED, actor="otto")

    for url in ("/admin/leads/leadevent/", f"/admin/leads/leadevent/{event.pk}/change/"):
        assert "Actor" not in text_of(german, url)
