"""`manage.py export_person`: all that is stored about somebody, and nothing of anybody else."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from leads.models import EventKind, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db

EMAIL = "anna@example.com"


def export(*arguments):
    out = StringIO()
    call_command("export_person", *(arguments or ("--email", EMAIL)), stdout=out)
    return json.loads(out.getvalue())


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


def test_a_lead_comes_with_all_its_columns_its_attempts_and_its_events(lead):
    [told] = export()["leads"]

    assert told["raw_payload"] == lead.raw_payload
    assert told["customer_payload"] == lead.customer_payload
    assert told["source_headers"] == {"X-Forwarded-For": "203.0.113.9"}
    assert [attempt["response_body"] for attempt in told["delivery_attempts"]] == ["taken"]
    assert [event["kind"] for event in told["events"]] == ["received", "revealed"]


def test_whom_it_was_sent_to_and_who_has_looked(lead):
    export()
    told = export()

    sent = {"recipient": "127.0.0.1", "lead": lead.pk, "at": "2026-01-21T12:00:00Z", "taken": True}
    assert told["sent_to"] == [sent]
    by_hand, by_export = told["seen_by"]
    assert (by_hand["lead"], by_hand["who"], by_hand["how"]) == (lead.pk, "bob", "revealed")
    assert (by_export["lead"], by_export["how"]) == (lead.pk, "person_exported")
    assert by_export["who"].startswith("cli:")


def test_that_it_was_exported_is_in_the_trail_without_the_person(lead):
    export()

    event = LeadEvent.objects.get(lead=None)
    assert (event.kind, event.detail) == ("person_exported", {"leads": str(lead.pk), "leads_of_others": ""})


def test_of_somebody_elses_lead_it_is_only_what_names_them():
    other = make.lead(raw_payload=make.payload(email="bob@example.org", friend={"name": "Anna", "mail": EMAIL}))
    make.attempt(other, response_body=f"no {EMAIL}")
    make.attempt(other, response_body="bob's")
    make.event(other, "resolved", detail={"reason": f"{EMAIL} called", "note": "bob's"})

    told = export()

    assert told["leads"] == []
    [named] = told["named_in_leads_of_others"]
    assert named.pop("received_at")
    assert named == {
        "raw_payload": [{"name": "Anna", "mail": EMAIL}],
        "customer_answers": [f"no {EMAIL}"],
        "events": [f"{EMAIL} called"],
    }
    assert "bob" not in json.dumps(told)


def test_notes_of_staff_are_told():
    LeadEvent.objects.create(
        kind="bulk_action_created", actor="x", detail={"bulk_action": 1, "reason": f"{EMAIL} called"}
    )

    assert export()["named_in_notes_of_staff"] == [f"{EMAIL} called"]


def test_of_somebody_unknown_there_is_nothing(lead):
    told = export("--phone", "+4915112345678")

    assert told["asked_for"] == {"email": None, "phone": "+4915112345678"}
    assert not [name for name, value in told.items() if value and name not in ("asked_for", "exported_at")]


def test_after_an_erasure_there_is_nothing(lead):
    call_command("erase_person", "--email", EMAIL, "--no-input", stdout=StringIO())

    told = export()

    assert not [name for name, value in told.items() if value and name not in ("asked_for", "exported_at")]


def test_nobody_in_particular_is_an_error():
    with pytest.raises(CommandError, match="Who"):
        call_command("export_person")
