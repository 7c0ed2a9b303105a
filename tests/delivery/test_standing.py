"""Where a lead stands, in one sentence; nothing here needs a database."""

from datetime import UTC, datetime, timedelta

import pytest

from delivery.models import DeliveryAttempt
from delivery.retry import RetryPolicy
from delivery.standing import OUTCOME_UNKNOWN, error_text, running_attempt, standing
from leads.models import InboundLead

NOW = datetime(2026, 1, 21, 10, 30, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5, base=timedelta(seconds=30))


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def ahead(seconds):
    return NOW + timedelta(seconds=seconds)


def lead(status="FAILED", **columns):
    return InboundLead(**{"id": 12, "status": status, "next_attempt_at": None, "raw_payload": {}} | columns)


def attempt(number, status=503, **columns):
    error = None if status == 200 else f"HTTP {status}"
    ended = {"finished_at": ago(5), "response_status": status, "error_message": error, "success": status == 200}
    return DeliveryAttempt(attempt_no=number, **{"requested_at": ago(6)} | ended | columns)


def begun(number, **columns):
    return DeliveryAttempt(attempt_no=number, **{"requested_at": ago(4)} | columns)


def attempts(count, **columns):
    return [attempt(number, **columns) for number in range(1, count + 1)]


SENTENCES = [
    # nothing has happened yet
    (lead("RECEIVED", next_attempt_at=ahead(3)), [], "waits for validation, due in 3 s"),
    (
        lead("RECEIVED", next_attempt_at=ago(7)),
        [],
        "waits for validation; it has been due for 7 s and no worker has taken it yet",
    ),
    (lead("RECEIVED", next_attempt_at=ago(7), claimed_until=ahead(40)), [], "is in a worker's hands, for validation"),
    (lead("RECEIVED"), [], "is stopped; nothing more happens to it by itself"),
    # the ends
    (lead("REJECTED"), [], "was rejected"),
    (
        lead("REJECTED", rejection_reason="ZIP_NOT_66XXX"),
        [],
        "was rejected: its zip code is not 66xxx (ZIP_NOT_66XXX)",
    ),
    (lead("REJECTED", rejection_reason="BY_HAND"), [], "was rejected: BY_HAND"),
    (lead("DELIVERED"), [], "was delivered"),
    (
        lead("DELIVERED"),
        [attempt(1), attempt(2, 200)],
        "was delivered by attempt 2 at 2026-01-21T10:29:55Z",
    ),
    (
        lead("DELIVERED"),
        [begun(1, success=True)],
        "was delivered by attempt 1 at 2026-01-21T10:29:56Z",
    ),
    (lead("PERMANENTLY_FAILED"), attempts(5), "was given up after 5 attempts; the last one: HTTP 503"),
    (lead("PERMANENTLY_FAILED"), attempts(1), "was given up after 1 attempt; the last one: HTTP 503"),
    (lead("PERMANENTLY_FAILED"), [], "was given up without an attempt"),
    (
        lead("PERMANENTLY_FAILED", attempts_forgiven=5),
        attempts(7),
        "was given up after 2 attempts; the last one: HTTP 503",
    ),
    (
        lead("PERMANENTLY_FAILED", attempts_forgiven=5),
        attempts(5),
        "was given up without an attempt",
    ),
    (
        lead("PERMANENTLY_FAILED"),
        [*attempts(4), begun(5)],
        "was given up after 5 attempts; the last one: outcome unknown",
    ),
    (
        lead("PERMANENTLY_FAILED"),
        [attempt(1), attempt(2, 422)],
        "was refused by the customer for good: attempt 2 was answered HTTP 422",
    ),
    # between two attempts
    (lead("READY", next_attempt_at=ahead(3)), [], "waits for attempt 1 of 5, due in 3 s"),
    (lead(next_attempt_at=ahead(42)), attempts(2), "waits for attempt 3 of 5, due in 42 s"),
    (
        lead(next_attempt_at=ago(70)),
        attempts(2),
        "waits for attempt 3 of 5; it has been due for 1 min 10 s and no worker has taken it yet",
    ),
    (
        lead("READY", next_attempt_at=ago(200), claimed_until=ago(20)),
        [begun(1)],
        "waits for attempt 2 of 5; the worker that had it was lost 20 s ago",
    ),
    (
        lead("READY", next_attempt_at=ago(200), claimed_until=ago(20)),
        [*attempts(4), begun(5)],
        "waits for being given up, as it has no attempt left; the worker that had it was lost 20 s ago",
    ),
    (
        lead("READY", next_attempt_at=ahead(1), attempts_forgiven=5),
        attempts(5),
        "waits for attempt 1 of 5 (number 6 in all), due in 1 s",
    ),
    (
        lead(rejection_reason="MISSING_REQUIRED_FIELD"),
        [],
        "is stopped: its phone or the product name is missing (MISSING_REQUIRED_FIELD);"
        " nothing more happens to it by itself",
    ),
    # in an attempt
    (
        lead("READY", next_attempt_at=ago(8), claimed_until=ahead(40)),
        [attempt(1), begun(2)],
        "is being delivered right now: attempt 2 of 5 began 4 s ago",
    ),
    (
        lead("READY", next_attempt_at=ago(8), claimed_until=ahead(40), attempts_forgiven=1),
        [attempt(1), begun(2)],
        "is being delivered right now: attempt 1 of 5 (number 2 in all) began 4 s ago",
    ),
    (
        lead("FAILED", next_attempt_at=ago(8), claimed_until=ahead(40)),
        attempts(1),
        "is in a worker's hands, for attempt 2 of 5",
    ),
]


@pytest.mark.parametrize(("lead", "attempts", "predicate"), SENTENCES, ids=[words for _, _, words in SENTENCES])
def test_where_a_lead_stands_is_one_sentence(lead, attempts, predicate):
    assert standing(lead, attempts, now=NOW, policy=POLICY) == f"Lead 12 {predicate}."


@pytest.mark.parametrize(
    ("claimed_until", "rows", "running"),
    [
        (None, [], None),
        (ahead(1), [attempt(1)], None),
        (ahead(1), [begun(1)], 1),
        (ahead(1), [begun(1), begun(2)], 2),
        (ahead(1), [begun(1), attempt(2)], None),
        (NOW, [begun(1)], None),
        (ago(1), [begun(1)], None),
        (None, [begun(1)], None),
        (None, [begun(1, requested_at=ahead(0.01))], 1),  # began after the lead was read
    ],
)
def test_an_attempt_is_running_while_it_is_the_last_and_the_claim_holds(claimed_until, rows, running):
    found = running_attempt(lead("READY", claimed_until=claimed_until), rows, now=NOW)

    assert (found and found.attempt_no) == running


@pytest.mark.parametrize(
    ("columns", "known"),
    [
        ({}, False),
        ({"finished_at": NOW}, True),
        ({"response_status": 503}, True),
        ({"error_message": "time-out"}, True),
        ({"success": True}, True),
    ],
)
def test_an_outcome_may_be_written_with_the_seeds_columns_alone(columns, known):
    row = begun(1, **columns)

    assert row.has_outcome is known
    assert (error_text(row, running=None) == OUTCOME_UNKNOWN) is not known
