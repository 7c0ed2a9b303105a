"""Events in words. These tests need no database."""

import pytest

from leads.models import EventKind, LeadEvent
from stats.masking import Masker
from stats.text.events import detail_text, event_text, event_title, status_change

EVENTS = [
    ("received", {}, "Received"),
    ("received", {"notes": ["nul_replaced"]}, "Received: NUL characters replaced"),
    ("duplicate", {}, "Received again"),
    ("mapped", {"attributes": [], "omitted": {}}, "Mapped for the customer"),
    ("mapped", {"attributes": ["a", "b"], "omitted": {}}, "Mapped for the customer: sent: a, b"),
    (
        "mapped",
        {
            "omitted": {"b": {"code": "null_value"}, "c": {"code": "below_minimum", "bound": 5}},
            "attributes": ["a"],
            "mapping": "17021452c7",
        },
        "Mapped for the customer: sent: a; not sent: b (null), c (below the minimum of 5); mapping file 17021452",
    ),
    ("attempt_started", {"attempt_no": 3}, "Attempt 3 started"),
    ("attempt_started", {}, "Attempt started"),
    (
        "attempt_finished",
        {
            "attempt_no": 1,
            "response_status": 503,
            "error": {"code": "http_status", "status": 503},
            "duration_ms": 120,
            "next_attempt_in_s": 60.0,
        },
        "Attempt 1 finished: HTTP 503; 120 ms; next attempt in 1 min",
    ),
    (
        "attempt_finished",
        {"attempt_no": 2, "response_status": None, "error": {"code": "connection_refused"}, "duration_ms": 0},
        "Attempt 2 finished: connection refused; 0 ms",
    ),
    (
        "attempt_finished",
        {"attempt_no": 1, "response_status": 200, "duration_ms": 9, "resent": True},
        "Attempt 1 finished: HTTP 200; sent again because the connection was closed; 9 ms",
    ),
    (
        "redelivered",
        {"reason": "asked for", "bulk_action": 7},
        "Redelivery requested by anna: asked for; bulk action 7",
    ),
    ("reprocessed", {}, "Reprocessing requested by anna"),
    ("resolved", {"reason": "called her"}, "Resolved by anna: called her"),
    ("revealed", {"minutes": 10}, "Personal data shown by anna: for 10 min"),
    (
        "bulk_action_created",
        {"bulk_action": 7, "kind": "redeliver", "leads": 12, "reason": "outage", "selection": "situation=attention"},
        "Bulk action created by anna: "
        "Redeliver; leads: 12; selection: Situation: Needs attention; outage; bulk action 7",
    ),
    (
        "bulk_action_cancelled",
        {"bulk_action": 7, "unprocessed": 3},
        "Bulk action cancelled by anna: not processed: 3; bulk action 7",
    ),
    ("exported", {"format": "csv", "leads": 2}, "Leads exported by anna: leads: 2; csv"),
    (
        "circuit_opened",
        {"failures": 10, "leads": 5, "last_answer": "503"},
        "Customer marked as down: leads: 5; consecutive failures: 10; last response: HTTP 503",
    ),
    ("circuit_closed", {"down_s": 7260, "probes": 9}, "Customer is back: after 2 h 1 min; recovery checks: 9"),
    ("delivery_paused", {"reason": "maintenance"}, "Delivery paused by anna: maintenance"),
    ("delivery_resumed", {"paused_s": 90}, "Delivery resumed by anna: after 1 min 30 s"),
    (
        "erased",
        {"details": {"12": "seal", "13": "seal", "17": "seal"}},
        "Personal data erased by anna: in events: 12-13, 17",
    ),
    (
        "person_erased",
        {"leads": "1-3", "other_leads": "", "busy_leads": "7", "attempts": 2, "events": 1, "bulk_actions": 0},
        "Person erased by anna: leads: 1-3; skipped while being processed: 7; attempts: 2; events: 1; bulk actions: 0",
    ),
    (
        "person_exported",
        {"leads": "1, 9", "other_leads": "4"},
        "Person's data exported by anna: leads: 1, 9; leads of other people: 4",
    ),
    (
        "retention_applied",
        {"leads": "1-3", "counts": {"DELIVERED": 2, "REJECTED": 1}},
        "Old leads deleted by anna: leads: 1-3; Delivered (2), Rejected (1)",
    ),
    ("revealed", {"by": "lead_history"}, "Personal data shown by anna: via lead_history"),
    ("received", {"ticket": 7, "list": [1.5, {"a": []}]}, "Received: ticket: 7; list: 1.5, a (nothing)"),
]


@pytest.mark.parametrize(("kind", "detail", "words"), EVENTS)
def test_an_event_is_one_line(kind, detail, words):
    assert event_text(LeadEvent(kind=kind, detail=detail, actor="anna")) == words


def test_every_kind_has_its_own_name():
    assert len({event_text(LeadEvent(kind=kind, detail={}, actor="anna")) for kind in EventKind}) == len(EventKind)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, "Status changed: Ready → Failed"),
        (
            {"reason": {"code": "attempts_exhausted", "attempts": 5, "error": {"code": "timeout", "seconds": 30}}},
            "Status changed: Ready → Failed: all 5 attempts failed: timed out after 30 s",
        ),
        (
            {"reason": "MISSING_REQUIRED_FIELD", "missing": ["phone"]},
            "Status changed: Ready → Failed: MISSING_REQUIRED_FIELD; missing: phone",
        ),
    ],
)
def test_a_status_change_has_its_reason(detail, words):
    assert event_text(LeadEvent(kind="status", from_status="READY", to_status="FAILED", detail=detail)) == words


@pytest.mark.parametrize("kind", ["attempt_finished", "mapped", "bulk_action_created", "erased"])
@pytest.mark.parametrize(
    "detail",
    [
        None,
        [1],
        "text",
        True,
        {"notes": 1, "attributes": 2, "omitted": ["x"], "missing": "y", "reason": {}, "next_attempt_in_s": "soon"},
        {"attempt_no": {}, "kind": ["x"], "{0}": "{1}", "next_attempt_in_s": 1e300, "mapping": 7, "": None},
        {"attempt_no": [], "kind": {}, "next_attempt_in_s": -(10**400)},
    ],
)
def test_a_detail_of_any_shape_is_shown(kind, detail):
    assert event_text(LeadEvent(kind=kind, detail=detail, actor="anna"))


def test_an_unknown_kind_and_status_are_shown_as_stored():
    event = LeadEvent(kind="unheard_of", from_status="READY", to_status="ERASED", detail={})

    assert (event_title(event), status_change(event)) == ("unheard_of", "Ready → ERASED")


def test_a_detail_is_masked():
    detail = {
        "reason": "call 0151 12345678",
        "erika@example.com": ["e@example.com"],
        "mapping": "17021452" * 7 + "abcdef12",
    }

    words = detail_text(LeadEvent(kind="redelivered", detail=detail), Masker(is_on=True))

    assert words == "mapping file 17021452; call 0151•••••78; e•••@example.com: e•••@example.com"
