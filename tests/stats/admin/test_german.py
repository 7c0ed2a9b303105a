"""The admin in German: stored codes, columns and pages."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.translation import override

from delivery.models import BulkAction, BulkActionKind
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.text.filters import selection_text
from tests import make
from tests.stats.admin.pages import ATTEMPTS, BULK_ACTIONS, EVENTS, LEADS, client_of, text_in, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def german() -> Client:
    return client_of(None, language="de-DE")


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
    bulk_action = BulkAction.objects.create(
        kind=BulkActionKind.RESOLVE, actor="otto", reason="ok", selection="situation=attention", created_at=make.NOON
    )
    detail = {"kind": "resolve", "selection": bulk_action.selection}
    event = LeadEvent.objects.create(lead=None, kind=EventKind.BULK_ACTION_CREATED, actor="otto", detail=detail)

    for url in (BULK_ACTIONS, f"{BULK_ACTIONS}{bulk_action.pk}/change/", EVENTS, f"{EVENTS}{event.pk}/change/"):
        text = text_of(german, url)
        assert "Situation: Braucht Aufmerksamkeit" in text
        assert "Actor" not in text


def test_an_error_is_shown_in_german(german: Client) -> None:
    failed("connection_refused")

    for url in (LEADS, "/admin/"):
        text = text_of(german, url)
        assert "Verbindung abgelehnt" in text
        assert "connection refused" not in text


def test_durations_are_declined_and_error_pages_are_translated(german: Client) -> None:
    lead = make.lead(next_attempt_at=timezone.now() + timedelta(days=2, minutes=1))

    assert "Prüfung ist in 2 Tagen fällig" in text_of(german, f"{LEADS}{lead.pk}/change/")
    assert "Diese Seite gibt es nicht." in text_of(german, f"{LEADS}999/change/", 404)
    support = client_of("Support", language="de")
    assert "Sie haben keine Berechtigung für diese Seite." in text_of(support, "/admin/auth/user/", 403)


def test_records_are_named_in_german(german: Client) -> None:
    attempt = make.attempt(make.lead(status=LeadStatus.FAILED))

    text = text_in(german.get(f"{ATTEMPTS}{attempt.pk}/change/").text)

    assert f"Zustellung Zustellversuche Versuch 1 von Lead {attempt.lead_id}" in text.replace("chevron_right ", "")
