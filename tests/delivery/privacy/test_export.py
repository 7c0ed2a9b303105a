"""`manage.py export_person` prints all data about a person, and no data of other people."""

import json

import pytest
from django.core.management import CommandError

from leads.models import EventKind, LeadEvent
from tests import make
from tests.commands import output_of, run

pytestmark = pytest.mark.django_db

EMAIL = "anna@example.com"


def export(*arguments):
    return json.loads(output_of("export_person", *(arguments or ("--email", EMAIL))))


@pytest.fixture
def lead():
    lead = make.lead(
        status="DELIVERED",
        raw_payload=make.payload(email=EMAIL, name="Anna"),
        source_headers={"X-Forwarded-For": "203.0.113.9"},
    )
    make.event(lead)
    make.attempt(lead, response_status=200, response_body="taken", requested_at=make.NOON)
    make.event(lead, EventKind.REVEALED, actor="bob")
    return lead


def test_a_lead_is_exported_with_its_attempts_and_events(lead):
    [exported] = export()["leads"]

    assert exported["raw_payload"] == lead.raw_payload
    assert exported["customer_payload"] == lead.customer_payload
    assert exported["source_headers"] == {"X-Forwarded-For": "203.0.113.9"}
    assert [attempt["response_body"] for attempt in exported["delivery_attempts"]] == ["taken"]
    assert [event["kind"] for event in exported["events"]] == ["received", "revealed"]


def test_recipients_and_viewers_are_exported_and_exports_are_recorded(lead):
    export()
    event = LeadEvent.objects.get(lead=None)
    assert (event.kind, event.detail) == ("person_exported", {"leads": str(lead.pk), "other_leads": ""})
    data = export()

    sent = {"recipient": "127.0.0.1", "lead": lead.pk, "at": "2026-01-21T12:00:00Z", "accepted": True}
    assert data["sent_to"] == [sent]
    view, earlier_export = data["viewed_by"]
    assert (view["lead"], view["user"], view["action"]) == (lead.pk, "bob", "revealed")
    assert (earlier_export["lead"], earlier_export["action"]) == (lead.pk, "person_exported")
    assert earlier_export["user"].startswith("cli:")


def test_only_the_mentions_in_another_persons_lead_are_exported():
    other = make.lead(raw_payload=make.payload(email="bob@example.org", friend={"name": "Anna", "mail": EMAIL}))
    make.attempt(other, response_body=f"no {EMAIL}")
    make.attempt(other, response_body="bob's")
    make.event(other, "resolved", detail={"reason": f"{EMAIL} called", "note": "bob's"})

    data = export()

    assert data["leads"] == []
    [mentions] = data["mentions_in_other_leads"]
    assert mentions.pop("received_at")
    assert mentions == {
        "raw_payload": [{"name": "Anna", "mail": EMAIL}],
        "customer_responses": [f"no {EMAIL}"],
        "events": [f"{EMAIL} called"],
    }
    assert "bob" not in json.dumps(data)


def test_staff_notes_are_exported():
    LeadEvent.objects.create(
        kind="bulk_action_created", actor="x", detail={"bulk_action": 1, "reason": f"{EMAIL} called"}
    )

    assert export()["mentions_in_staff_notes"] == [f"{EMAIL} called"]


def test_the_export_of_an_unknown_or_erased_person_is_empty(lead):
    data = export("--phone", "+4915112345678")
    assert data["searched_for"] == {"email": None, "phone": "+4915112345678"}
    assert is_empty(data)

    output_of("erase_person", "--email", EMAIL, "--no-input")
    assert is_empty(export())


def is_empty(data):
    return not any(value for name, value in data.items() if name not in ("searched_for", "exported_at"))


def test_a_person_is_required():
    with pytest.raises(CommandError, match="required"):
        run("export_person")
