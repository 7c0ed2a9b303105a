"""The timeline of a lead. These tests need no database."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import translation

from delivery.models import DeliveryAttempt
from delivery.retry import RetryPolicy
from leads.models import InboundLead, LeadEvent
from stats.masking import Masker
from stats.text.timeline import EventLog, timeline

NOW = datetime(2026, 1, 21, 10, 30, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5, base=timedelta(seconds=30))


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def lead(status="FAILED", **columns):
    return InboundLead(**{"id": 12, "status": status, "next_attempt_at": None, "raw_payload": {}} | columns)


def event(kind, seconds, **columns):
    return LeadEvent(**{"kind": kind, "at": ago(seconds), "actor": "worker", "detail": {}} | columns)


def attempt(number, seconds, **columns):
    ended = {"finished_at": ago(seconds - 1), "response_status": 503, "error_message": "HTTP 503", "duration_ms": 1234}
    return DeliveryAttempt(attempt_no=number, requested_at=ago(seconds), **ended | columns)


def entries_of(of, events, attempts=(), **more):
    return timeline(of, EventLog(events), attempts, now=NOW, policy=POLICY, **more)


def titles(*given, **more):
    return [entry.title for entry in entries_of(*given, **more)]


EVENTS = [
    event("received", 90, actor="webhook"),
    event("duplicate", 85, actor="webhook"),
    event("status", 80, from_status="RECEIVED", to_status="READY"),
    event("mapped", 80, detail={"attributes": ["a"], "omitted": {"b": {"code": "null_value"}}}),
    event("attempt_started", 79, detail={"attempt_no": 1}),
    event("attempt_finished", 78, detail={"attempt_no": 1, "response_status": 503, "next_attempt_in_s": 30}),
    event("status", 78, from_status="READY", to_status="FAILED"),
    event("redelivered", 40, actor="anna", detail={"reason": "asked for"}),
]


def test_every_event_and_attempt_appears_once_in_order():
    entries = entries_of(lead(next_attempt_at=ago(-42)), EVENTS, [attempt(1, 79)])

    assert [(entry.title, entry.status_change, entry.text, entry.actor) for entry in entries] == [
        ("Received", "", "", "webhook"),
        ("Received again", "", "", "webhook"),
        ("Status changed", "Received → Ready", "", "worker"),
        ("Mapped for the customer", "", "sent: a; not sent: b (null)", "worker"),
        ("Attempt 1 of 5", "", "took 1,234 ms; next attempt due after 30 s", ""),
        ("Status changed", "Ready → Failed", "", "worker"),
        ("Redelivery requested", "", "asked for", "anna"),
        ("Attempt 2 of 5 is due in 42 s", "", "", ""),
    ]
    assert [entry.is_next for entry in entries] == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("columns", "label", "tone"),
    [
        ({}, "Failed HTTP 503", "failed"),
        ({"response_status": 201, "success": True, "error_message": None}, "Success HTTP 201", "delivered"),
        ({"finished_at": None, "response_status": None, "error_message": None}, "Outcome unknown", "unknown"),
    ],
)
def test_an_attempt_shows_its_outcome(columns, label, tone):
    (entry,) = entries_of(lead(), [], [attempt(1, 9, **columns)])

    assert (entry.label, entry.tone) == (label, tone)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "sent again because the connection was closed; took 1,234 ms"),
        ("de", "erneut gesendet, weil die Verbindung geschlossen wurde; dauerte 1.234 ms"),
    ],
)
def test_an_attempt_says_that_its_request_was_sent_again(language, text):
    events = [event("attempt_finished", 8, detail={"attempt_no": 1, "resent": True})]

    with translation.override(language):
        (entry,) = entries_of(lead(), events, [attempt(1, 9)])

    assert entry.text == text


def test_a_running_attempt_is_the_last_entry():
    row = DeliveryAttempt(attempt_no=1, requested_at=ago(4))

    (entry,) = entries_of(lead("READY", next_attempt_at=ago(5), claimed_until=ago(-30)), [], [row])

    assert (entry.title, entry.label) == ("Attempt 1 of 5", "Running")


def test_a_finished_lead_has_no_next_step():
    assert titles(lead("FAILED"), []) == []


def test_attempts_without_permission_are_shown_by_their_events():
    assert titles(lead(), EVENTS[4:6]) == ["Attempt 1 started", "Attempt 1 finished"]


def test_a_long_timeline_counts_hidden_events():
    first = [event("received", 900), event("duplicate", 800)]
    last = [event("duplicate", 20), event("duplicate", 10)]

    entries = timeline(lead(), EventLog(first, last, hidden=9800), [attempt(1, 500)], now=NOW, policy=POLICY)

    assert [entry.title for entry in entries] == [
        "Received",
        "Received again",
        "9,800 events not shown",
        "Attempt 1 of 5",
        "Received again",
        "Received again",
    ]


@pytest.mark.parametrize("detail", [None, [], "x", {"attempt_no": []}, {"attempt_no": "1"}, {"attempt_no": 1, "x": {}}])
@pytest.mark.parametrize("kind", ["attempt_finished", "unheard of"])
def test_a_detail_of_any_shape_is_shown(kind, detail):
    assert entries_of(lead(), [event(kind, 9, detail=detail)], [attempt(2, 5)])


def test_texts_are_masked():
    events = [event("redelivered", 9, actor="anna", detail={"reason": "call 0151 12345678"})]
    rows = [attempt(1, 5, response_status=None, error_message="e@x.de is unknown")]

    assert [entry.text for entry in entries_of(lead(), events, rows, masker=Masker(is_on=True))] == [
        "call 0151•••••78",
        "e•••@x.de is unknown; took 1,234 ms",
    ]
