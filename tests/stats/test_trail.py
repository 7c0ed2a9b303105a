"""What happened to a lead, in words; nothing here needs a database."""

import pytest

from leads.models import LeadEvent
from stats.trail import in_words

EVENTS = [
    ("received", {}, "received"),
    ("received", {"notes": ["2 signs replaced"]}, "received; 2 signs replaced"),
    ("duplicate", {}, "received again; recognised, not delivered twice"),
    ("mapped", {"attributes": [], "omitted": {}}, "mapped for the customer: no attributes"),
    ("mapped", {"attributes": ["a", "b"], "omitted": {}}, "mapped for the customer: a, b"),
    (
        "mapped",
        {"attributes": ["a"], "omitted": {"b": "null", "c": "empty"}},
        "mapped for the customer: a; left out: b (null), c (empty)",
    ),
    ("attempt_started", {"attempt_no": 3}, "attempt 3 started"),
    (
        "attempt_finished",
        {"attempt_no": 1, "response_status": 503, "error": "HTTP 503", "duration_ms": 120, "next_attempt_in_s": 60.0},
        "attempt 1 ended: HTTP 503 (120 ms); next in 1 min",
    ),
    (
        "attempt_finished",
        {"attempt_no": 2, "response_status": None, "error": "connection refused", "duration_ms": 0},
        "attempt 2 ended: connection refused (0 ms)",
    ),
    (
        "attempt_finished",
        {"attempt_no": 2, "response_status": 200, "error": None, "duration_ms": 7},
        "attempt 2 ended: HTTP 200 (7 ms)",
    ),
    ("redelivered", {"reason": "asked for"}, "redelivery ordered by anna: asked for"),
    ("reprocessed", {}, "reprocessing ordered by anna"),
]


@pytest.mark.parametrize(("kind", "detail", "words"), EVENTS)
def test_an_event_is_told_in_words(kind, detail, words):
    assert in_words(LeadEvent(kind=kind, detail=detail, actor="anna")) == words


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, "READY -> FAILED"),
        ({"reason": "5 attempts failed"}, "READY -> FAILED: 5 attempts failed"),
        (
            {"reason": "MISSING_REQUIRED_FIELD", "missing": ["phone"]},
            "READY -> FAILED: MISSING_REQUIRED_FIELD (phone)",
        ),
    ],
)
def test_a_change_of_status_is_told_with_its_reason(detail, words):
    assert in_words(LeadEvent(kind="status", from_status="READY", to_status="FAILED", detail=detail)) == words


@pytest.mark.parametrize("kind", [kind for kind, _, _ in EVENTS] + ["status"])
@pytest.mark.parametrize(
    "detail",
    [
        None,
        [],
        "text",
        {"notes": 1, "attributes": 2, "omitted": ["x"], "missing": "y", "reason": {}, "next_attempt_in_s": "soon"},
    ],
)
def test_a_detail_of_any_shape_is_survived(kind, detail):
    assert in_words(LeadEvent(kind=kind, detail=detail, actor="anna"))


def test_a_kind_that_is_unknown_is_named():
    assert in_words(LeadEvent(kind="erased", detail={})) == "erased"
