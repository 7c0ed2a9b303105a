"""The audit finds every defect that is added to the evidence of a correct run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.chaos.audit import Evidence, Row, compare
from tests.chaos.load import Posted, Response, Scenario
from tests.hostile_customer import LedgerRecord

NOON = datetime(2026, 1, 21, 12, 0, tzinfo=UTC)

#: The customer's outcome of each request, and the status that the gateway received. None means no response.
REQUESTS: dict[Scenario, list[tuple[str, int | None]]] = {
    Scenario.DELIVERABLE: [("status 503", 503), ("reset after booking", None), ("duplicate", 200)],
    Scenario.REFUSED: [("status 422", 422)],
    Scenario.REJECTED: [],
    Scenario.INCOMPLETE: [],
}
PATHS = {
    Scenario.DELIVERABLE: ["RECEIVED", "READY", "FAILED", "DELIVERED"],
    Scenario.REFUSED: ["RECEIVED", "READY", "PERMANENTLY_FAILED"],
    Scenario.REJECTED: ["RECEIVED", "REJECTED"],
    Scenario.INCOMPLETE: ["RECEIVED", "READY", "FAILED"],
}
#: The leads' ids.
DELIVERED, REFUSED, REJECTED, INCOMPLETE = 1, 2, 3, 4


def whole() -> Evidence:
    """Return the evidence of four leads, one of each scenario."""
    evidence = Evidence(posted=[], ledger=[], leads=[], attempts=[], events=[], max_attempts=5)
    for number, scenario in enumerate(Scenario, start=1):
        _add(evidence, number, scenario, path=PATHS[scenario], requests=REQUESTS[scenario])
    return evidence


def _add(
    evidence: Evidence, number: int, scenario: Scenario, *, path: list[str], requests: list[tuple[str, int | None]]
) -> None:
    payload = {"email": f"lead{number}@example.com"}
    responses = [Response(NOON.timestamp(), 503), Response(NOON.timestamp() + 1, 200, lead_id=number)]
    evidence.posted.append(Posted(scenario, payload, NOON.timestamp(), responses))
    evidence.leads.append(
        {
            "id": number,
            "status": path[-1],
            "raw_payload": payload,
            "idempotency_key": f"key-{number}",
            "delivered_at": NOON if path[-1] == "DELIVERED" else None,
            "next_attempt_at": None,
            "claim_token": None,
            "uncounted_attempts": 0,
        }
    )
    evidence.events.append(event(number, "received"))
    for was, now in pairwise(path):
        evidence.events.append(event(number, "status") | {"from_status": was, "to_status": now})
    for attempt_no, (outcome, status) in enumerate(requests, start=1):
        at = NOON + timedelta(seconds=10 * attempt_no)
        evidence.ledger.append(request(f"key-{number}", outcome, now=at))
        evidence.attempts.append(attempt(number, attempt_no, status, now=at - timedelta(milliseconds=5)))
        evidence.events += [event(number, kind, attempt_no) for kind in ("attempt_started", "attempt_finished")]


def event(lead_id: int, kind: str, attempt_no: int | None = None) -> Row:
    return {"id": 7, "lead_id": lead_id, "kind": kind, "detail": {"attempt_no": attempt_no}}


def attempt(lead_id: int, attempt_no: int, status: int | None, *, now: datetime) -> Row:
    return {
        "lead_id": lead_id,
        "attempt_no": attempt_no,
        "created_at": now,
        "finished_at": now + timedelta(seconds=1),
        "response_status": status,
        "success": status == 200,
    }


def request(key: str, outcome: str, *, now: datetime) -> LedgerRecord:
    return LedgerRecord(
        time=now.isoformat(timespec="milliseconds"),
        idempotency_key=key,
        correlation_id=None,
        phone=None,
        product=None,
        outcome=outcome,
        booked=outcome in ("accepted", "reset after booking"),
        duplicate=outcome == "duplicate",
        id="1",
        payload=None,
    )


def test_a_correct_run_has_no_problems() -> None:
    audit = compare(whole())

    assert audit.problems == []
    assert audit.counts == {
        "accepted": 4,
        "delivered": 1,
        "refused": 1,
        "rejected": 1,
        "incomplete": 1,
        "given_up": 0,
        "given_up_though_taken": 0,
        "lost": 0,
        "sent_again": 1,
        "sent_again_unexplained": 0,
        "died": 0,
        "unanswered": 1,
        "received_again": 0,
        "attempts": 4,
        "events": 20,
    }
    assert audit.statuses == {503: 4, 200: 4}
    assert audit.longest_wait == 19  # accepted at second 1, booked at second 20


def test_a_lead_may_be_given_up_when_its_attempts_are_used_up_and_not_before() -> None:
    evidence = whole()
    path = ["RECEIVED", "READY", "FAILED", "PERMANENTLY_FAILED"]
    _add(evidence, 5, Scenario.DELIVERABLE, path=path, requests=[("status 503", 503)] * 5)

    assert compare(evidence).problems == []
    assert compare(evidence).counts["given_up"] == 1

    _lead(evidence, 5)["uncounted_attempts"] = 1
    assert compare(evidence).problems == ["lead 5: deliverable, but PERMANENTLY_FAILED after 5 attempts"]
    assert compare(evidence).counts["lost"] == 1


def test_a_request_is_sent_again_on_a_closed_connection_only_if_its_event_says_so() -> None:
    evidence = whole()
    evidence.ledger.insert(2, request("key-1", "reset after booking", now=NOON + timedelta(seconds=30)))
    assert any("ledger contradict each other" in problem for problem in compare(evidence).problems)

    finished = [each for each in evidence.events if each["kind"] == "attempt_finished" and each["lead_id"] == DELIVERED]
    finished[2]["detail"]["resent"] = True
    assert compare(evidence).problems == []


def _drop(rows: Any, **fields: Any) -> None:
    rows[:] = [row for row in rows if any(row[name] != value for name, value in fields.items())]


def _lead(evidence: Evidence, number: int) -> Row:
    return evidence.leads[number - 1]


def _receive_again(evidence: Evidence) -> None:
    """Send the delivered lead again, with a correct record."""
    at = NOON + timedelta(minutes=5)
    evidence.ledger.append(request("key-1", "duplicate", now=at))
    evidence.attempts.append(attempt(DELIVERED, 4, 200, now=at))
    evidence.events += [event(DELIVERED, kind, 4) for kind in ("attempt_started", "attempt_finished")]


def _send_without_attempt(evidence: Evidence) -> None:
    evidence.ledger.append(request("key-1", "duplicate", now=NOON + timedelta(minutes=5)))


DAMAGES: dict[str, tuple[Callable[[Evidence], Any], str]] = {
    "the row is gone": (lambda e: _drop(e.leads, id=REJECTED), "the response names lead 3, stored are []"),
    "two rows of one lead": (lambda e: e.leads.append(_lead(e, REJECTED) | {"id": 9}), "stored are [3, 9]"),
    "another payload": (
        lambda e: _lead(e, REJECTED).update(raw_payload={"email": "lead3@example.com", "x": 1}),
        "no sender posted its payload",
    ),
    "a response 500": (lambda e: e.posted[0].responses.insert(0, Response(0, 500)), "unexpected responses [500]"),
    "a lead never accepted": (lambda e: e.posted[2].responses.pop(), "no post was accepted"),
    "stuck in READY": (lambda e: _lead(e, REFUSED).update(status="READY"), "refused, but READY"),
    "a lead that waits": (lambda e: _lead(e, INCOMPLETE).update(next_attempt_at=NOON), "incomplete, but FAILED"),
    "still claimed": (lambda e: _lead(e, DELIVERED).update(claim_token="x"), "still claimed"),
    "no time of delivery": (lambda e: _lead(e, DELIVERED).update(delivered_at=None), "delivered_at is None"),
    "the customer does not have it": (lambda e: _drop(e.ledger, idempotency_key="key-1"), "does not have it"),
    "a request without an attempt": (_send_without_attempt, "ledger contradict each other"),
    "a request before its attempt was written": (
        lambda e: e.attempts[0].update(created_at=NOON + timedelta(seconds=12)),
        "ledger contradict each other",
    ),
    "an attempt with another answer": (
        lambda e: e.attempts[0].update(response_status=500),
        "ledger contradict each other",
    ),
    "an attempt without a request": (lambda e: _drop(e.ledger, outcome="status 422"), "ledger contradict each other"),
    "an unknown lead": (lambda e: e.ledger.append(request("key-9", "accepted", now=NOON)), "is the key of no lead"),
    "sent again after a success": (_receive_again, "sent again although attempt 3 had succeeded"),
    "sent again after an answer": (
        lambda e: (
            e.attempts[1].update(response_status=200),
            e.ledger[1].update(outcome="accepted"),
        ),
        "sent again although attempt 2 had a response",
    ),
    "attempts that are not numbered": (lambda e: e.attempts[0].update(attempt_no=2), "are numbered [2, 2, 3]"),
    "a receipt that is not in the events": (lambda e: e.events.pop(0), "first event is not its receipt"),
    "a status that is not in the events": (lambda e: e.events.pop(3), "its row says DELIVERED, its events FAILED"),
    "a step that is not allowed": (lambda e: e.events[1].update(to_status="DELIVERED"), "RECEIVED -> DELIVERED"),
    "an attempt that is not in the events": (
        lambda e: _drop(e.events, kind="attempt_started"),
        "attempt_started in its events: []",
    ),
    "an outcome that is not in the events": (
        lambda e: e.attempts[0].update(finished_at=None),
        "attempt_finished in its events: [1, 2, 3], in its attempts: [2, 3]",
    ),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_a_defect_is_found(damage: Callable[[Evidence], Any], problem: str) -> None:
    evidence = whole()
    damage(evidence)

    problems = compare(evidence).problems

    assert any(problem in found for found in problems), problems


@pytest.mark.parametrize("damage", ["the row is gone", "stuck in READY", "the customer does not have it"])
def test_lost_leads_are_counted(damage: str) -> None:
    evidence = whole()
    DAMAGES[damage][0](evidence)

    assert compare(evidence).counts["lost"] == 1


def test_unexplained_repetitions_are_counted() -> None:
    evidence = whole()
    _receive_again(evidence)

    assert compare(evidence).counts["sent_again_unexplained"] == 1
