"""`manage.py lead_counts` and `manage.py lead_history`."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.utils import timezone

from tests import make
from tests.commands import output_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


# --- lead_counts -----------------------------------------------------------------------------------------------------


def test_counts_are_shown_as_a_table():
    for _ in range(12):
        make.lead(status="DELIVERED")
    make.lead(status="PERMANENTLY_FAILED")

    assert output_of("lead_counts").splitlines() == [
        "received             0",
        "rejected             0",
        "ready                0",
        "delivered           12",
        "failed               0",
        "permanently failed   1",
        "----------------------",
        "total               13",
    ]


def test_counts_as_json_equal_the_endpoint(client):
    make.lead()

    assert json.loads(output_of("lead_counts", "--json")) == client.get("/stats/leads/counts").json()


# --- lead_history ----------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting():
    """Return a lead that failed once and waits for its retry."""
    now = timezone.now()
    lead = make.lead(status="FAILED", received_at=make.NOON, next_attempt_at=now + timedelta(seconds=42.4))
    ended = {"attempt_no": 1, "response_status": 503, "duration_ms": 120, "next_attempt_in_s": 30}
    mapped = {"attributes": ["solar_area"], "omitted": {"solar_usage": "not text"}}
    make.event(lead, detail={"notes": ["2 signs replaced"]})
    make.event(lead, "mapped", actor="worker", detail=mapped)
    make.attempt(lead, error_message="HTTP 503")
    make.event(lead, "attempt_finished", actor="worker", detail=ended)
    make.event(lead, "redelivered", actor="anna.schmidt@example.org", detail={"reason": "asked for"})
    return lead


def test_history_shows_summary_timeline_and_attempts(waiting):
    lines = output_of("lead_history", str(waiting.pk)).splitlines()

    assert lines[0] == "Attempt 1 of 5 failed with HTTP 503; attempt 2 of 5 is due in 42 s."
    assert lines[2:4] == ["Status          FAILED", f"Received        2026-01-21T12:00:00Z ({_age(lines[3])} ago)"]
    assert lines[4] == f"Correlation id  {waiting.correlation_id}"
    assert lines[6:] == [
        "Timeline",
        "  2026-01-21T12:00:00Z  webhook       Received: 2 signs replaced",
        "  2026-01-21T12:00:00Z  worker        Mapped for the customer: sent: solar_area;",
        "                                      not sent: solar_usage (not text)",
        "  2026-01-21T12:00:00Z  worker        Attempt 1 finished: HTTP 503; 120 ms; next",
        "                                      attempt in 30 s",
        "  2026-01-21T12:00:00Z  anna.schmid~  Redelivery requested by",
        "                                      anna.schmidt@example.org: asked for",
        "",
        "Attempts",
        "  no  started               outcome  HTTP    took  error",
        "   1  2026-01-21T12:00:00Z  failed    503  120 ms  HTTP 503",
    ]


def _age(line):
    return line.partition("(")[2].removesuffix(" ago)")


def test_history_of_a_lead_without_events():
    lead = make.lead()

    lines = output_of("lead_history", str(lead.pk)).splitlines()

    assert lines[-5:] == ["Timeline", "  (none)", "", "Attempts", "  (none)"]


def test_each_outcome_has_its_word():
    lead = make.lead(status="READY", claimed_until=timezone.now() + timedelta(seconds=30))
    make.attempt(lead)
    make.attempt(lead, response_status=200)
    make.attempt(lead, finished_at=None)
    make.attempt(lead, finished_at=None)

    rows = [line.split() for line in output_of("lead_history", str(lead.pk)).splitlines()[-4:]]

    assert [(row[0], row[2]) for row in rows] == [
        ("1", "failed"),
        ("2", "delivered"),
        ("3", "unknown"),
        ("4", "running"),
    ]


@pytest.mark.parametrize("json_or_text", [(), ("--json",)])
def test_personal_data_is_shown_only_on_request_which_is_recorded(json_or_text):
    payload = make.payload(name="Jürgen Groß")
    lead = make.lead(status="READY", raw_payload=payload, source_headers={"X-Forwarded-For": "203.0.113.9"})
    make.attempt(lead, response_body="Jürgen Groß, 203.0.113.9")

    without = output_of("lead_history", str(lead.pk), *json_or_text)
    assert not [word for word in ("Jürgen", make.PHONE, payload["email"], "203.0.113.9") if word in without]
    assert not lead.events.exists()

    requested = output_of("lead_history", str(lead.pk), "--payload", *json_or_text)
    assert not [word for word in ("Jürgen", make.PHONE, payload["email"]) if word not in requested]
    assert "203.0.113.9" not in requested
    event = lead.events.get()
    assert (event.kind, event.detail) == ("revealed", {"by": "lead_history"})
    assert event.actor.startswith("cli:")


def test_history_as_json_extends_the_endpoint(client, waiting):
    shown = json.loads(output_of("lead_history", str(waiting.pk), "--json", "--payload"))
    response = client.get(f"/stats/leads/{waiting.pk}/history").json()

    assert [attempt.pop("duration_ms") for attempt in shown["delivery_attempts"]] == [120]
    assert {name: shown[name] for name in response} == response
    assert shown["status_summary"].startswith("Attempt 1 of 5 failed with HTTP 503; attempt 2 of 5 is due in ")
    assert shown["correlation_id"] == str(waiting.correlation_id)
    assert shown["timeline"][0] == {
        "at": "2026-01-21T12:00:00Z",
        "actor": "webhook",
        "kind": "received",
        "what": "Received: 2 signs replaced",
    }
    assert len(shown["timeline"]) == 4


@pytest.mark.parametrize(
    ("lead_id", "message"),
    [
        ("999", "^There is no lead 999.$"),
        (str(2**31), f"^There is no lead {2**31}.$"),
        ("9" * 100, f"^There is no lead {'9' * 100}.$"),
        ("abc", "id: invalid int value"),
        ("9" * 5_000, "id: invalid int value"),
    ],
    ids=lambda value: value[:20],
)
def test_an_unknown_lead_is_an_error(lead_id, message):
    with pytest.raises(CommandError, match=message):
        output_of("lead_history", lead_id)


def test_control_characters_are_not_written():
    lead = make.lead(status="READY", raw_payload=make.payload(name="\x9b2J\x1b[2J"))
    make.event(lead, "redelivered", actor="\x1b[2J", detail={"reason": "\x1b[2J"})
    make.attempt(lead, error_message="\x1b[2J")

    written = output_of("lead_history", str(lead.pk), "--payload")

    assert not {"\x1b", "\x9b"} & set(written)


def test_every_line_fits_into_80_columns():
    lead = make.lead(status="FAILED", rejection_reason="MISSING_REQUIRED_FIELD", next_attempt_at=None)
    make.event(lead, "redelivered", actor="x" * 150, detail={"reason": "word " * 60})
    make.attempt(lead, error_message="word " * 60)

    assert max(map(len, output_of("lead_history", str(lead.pk)).splitlines())) <= 80
