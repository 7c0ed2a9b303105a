"""The status of a lead in words. These tests need no database."""

from datetime import UTC, datetime, timedelta

import pytest

from delivery.models import DeliveryAttempt, DeliveryControl
from delivery.retry import RetryPolicy
from leads.models import InboundLead
from stats.text.status_summary import OUTCOME_UNKNOWN, error_text, is_in_progress, running_attempt, status_summary

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


NO_RETRIES = "no automatic retries left"
LOST = {"next_attempt_at": ago(200), "claimed_until": ago(20)}
CLAIMED = {"next_attempt_at": ago(8), "claimed_until": ahead(40)}

SENTENCES = [
    # received
    (lead("RECEIVED", next_attempt_at=ahead(3)), [], "Received; validation is due in 3 s"),
    (
        lead("RECEIVED", next_attempt_at=ago(7)),
        [],
        "Received; validation has been due for 7 s and is waiting for a worker",
    ),
    (lead("RECEIVED", **CLAIMED), [], "Received; a worker is preparing validation"),
    (lead("RECEIVED"), [], f"Received; {NO_RETRIES}"),
    (
        lead("RECEIVED", next_attempt_at=ahead(3), uncounted_attempts=1),
        attempts(1),
        "Reprocessing from the received payload; validation is due in 3 s",
    ),
    # final
    (lead("REJECTED"), [], "Rejected; not sent to the customer"),
    (
        lead("REJECTED", rejection_reason="ZIP_NOT_66XXX"),
        [],
        "Rejected: zipcode must be five digits that begin with 66 (ZIP_NOT_66XXX); not sent to the customer",
    ),
    (lead("REJECTED", rejection_reason="BY_HAND"), [], "Rejected: BY_HAND; not sent to the customer"),
    (lead("DELIVERED"), [], "Delivered"),
    (lead("DELIVERED"), [attempt(1), attempt(2, 200)], "Delivered with attempt 2 of 5 at 2026-01-21T10:29:55Z"),
    (lead("DELIVERED"), [begun(1, success=True)], "Delivered with attempt 1 of 5 at 2026-01-21T10:29:56Z"),
    (
        lead("DELIVERED", uncounted_attempts=1),
        [attempt(1, 200), attempt(2)],
        "Delivered with attempt 1 at 2026-01-21T10:29:55Z",
    ),
    (lead("PERMANENTLY_FAILED"), attempts(5), f"Permanently failed after 5 attempts: HTTP 503; {NO_RETRIES}"),
    (lead("PERMANENTLY_FAILED"), attempts(1), f"Permanently failed after 1 attempt: HTTP 503; {NO_RETRIES}"),
    (lead("PERMANENTLY_FAILED"), [], f"Permanently failed without an attempt; {NO_RETRIES}"),
    (
        lead("PERMANENTLY_FAILED", resolved_at=ago(1)),
        attempts(5),
        "Permanently failed after 5 attempts: HTTP 503; marked as resolved",
    ),
    (
        lead("PERMANENTLY_FAILED", uncounted_attempts=5),
        attempts(7),
        f"Permanently failed after 2 attempts: HTTP 503; {NO_RETRIES}",
    ),
    (
        lead("PERMANENTLY_FAILED"),
        [*attempts(4), begun(5)],
        f"Permanently failed after 5 attempts: outcome unknown; {NO_RETRIES}",
    ),
    (
        lead("PERMANENTLY_FAILED"),
        [attempt(1), attempt(2, 422)],
        f"Rejected by the customer: attempt 2 returned HTTP 422; {NO_RETRIES}",
    ),
    # between two attempts
    (lead("READY", next_attempt_at=ahead(3)), [], "Validated and mapped; attempt 1 of 5 is due in 3 s"),
    (
        lead(next_attempt_at=ahead(42)),
        attempts(2),
        "Attempt 2 of 5 failed with HTTP 503; attempt 3 of 5 is due in 42 s",
    ),
    (
        lead(next_attempt_at=ahead(42)),
        [attempt(1, response_status=None, error_message="timed out after 30 s")],
        "Attempt 1 of 5 failed: timed out after 30 s; attempt 2 of 5 is due in 42 s",
    ),
    (
        lead(next_attempt_at=ahead(42)),
        [attempt(1, response_status=None, error_message=None)],
        "Attempt 1 of 5 failed: no response; attempt 2 of 5 is due in 42 s",
    ),
    (lead(next_attempt_at=ahead(42)), [attempt(1, 200)], "Attempt 1 of 5 succeeded; attempt 2 of 5 is due in 42 s"),
    (
        lead(next_attempt_at=ago(70)),
        attempts(2),
        "Attempt 2 of 5 failed with HTTP 503; attempt 3 of 5 has been due for 1 min 10 s and is waiting for a worker",
    ),
    (
        lead("READY", **LOST),
        [begun(1)],
        "Attempt 1 of 5 has an unknown outcome;"
        " attempt 2 of 5 is due; the previous worker stopped unexpectedly 20 s ago",
    ),
    (
        lead("READY", **LOST),
        [*attempts(4), begun(5)],
        "Attempt 5 of 5 has an unknown outcome;"
        " the change to “permanently failed” is due; the previous worker stopped unexpectedly 20 s ago",
    ),
    (
        lead("READY", next_attempt_at=ahead(1), uncounted_attempts=5),
        attempts(5),
        "Redelivery requested; attempt 1 of 5 (6 in total) is due in 1 s",
    ),
    (
        lead(next_attempt_at=ahead(42), uncounted_attempts=3),  # the customer was down
        attempts(3),
        "Attempt 3 failed with HTTP 503; attempt 1 of 5 (4 in total) is due in 42 s",
    ),
    (
        lead(rejection_reason="MISSING_REQUIRED_FIELD"),
        [],
        f"Stopped: the phone number or the product name is missing (MISSING_REQUIRED_FIELD); {NO_RETRIES}",
    ),
    # claimed
    (
        lead("READY", **CLAIMED),
        [attempt(1), begun(2)],
        "Attempt 1 of 5 failed with HTTP 503; attempt 2 of 5 has been running for 4 s",
    ),
    (
        lead("FAILED", **CLAIMED),
        attempts(1),
        "Attempt 1 of 5 failed with HTTP 503; a worker is preparing attempt 2 of 5",
    ),
]


@pytest.mark.parametrize(("lead", "attempts", "sentence"), SENTENCES, ids=[words for _, _, words in SENTENCES])
def test_the_status_is_one_sentence(lead, attempts, sentence):
    assert status_summary(lead, attempts, now=NOW, policy=POLICY) == f"{sentence}."


@pytest.mark.parametrize(
    ("payload", "received"),
    [
        ({"house": {"is_owner": "true"}}, ' (received "true")'),
        ({"house": {"is_owner": False}}, " (received false)"),
        ({"house": {}}, " (missing)"),
        ({}, " (missing)"),
        ({"house": {"is_owner": "Erika Mustermann"}}, ""),
        ({"house": {"is_owner": {"a": 1}}}, ""),
    ],
)
def test_a_rejection_shows_the_received_owner_but_no_personal_data(payload, received):
    rejected = lead("REJECTED", rejection_reason="NOT_HOMEOWNER", raw_payload=payload)

    assert status_summary(rejected, [], now=NOW, policy=POLICY) == (
        f"Rejected: house.is_owner must be true{received} (NOT_HOMEOWNER); not sent to the customer."
    )


def test_times_use_the_given_format():
    summary = status_summary(
        lead("DELIVERED"), [attempt(1, 200)], now=NOW, policy=POLICY, show_time=lambda at: f"{at:%H.%M Uhr}"
    )

    assert summary == "Delivered with attempt 1 of 5 at 10.29 Uhr."


@pytest.mark.parametrize(
    ("lead", "in_progress"),
    [
        (lead("RECEIVED", next_attempt_at=ahead(1)), True),
        (lead("READY", claimed_until=ahead(1)), True),
        (lead("READY", claimed_until=ago(1)), False),
        (lead("FAILED"), False),
        (lead("DELIVERED", next_attempt_at=ahead(1), claimed_until=ahead(1)), False),
    ],
)
def test_a_lead_is_in_progress_while_it_is_due_or_claimed(lead, in_progress):
    assert is_in_progress(lead, now=NOW) is in_progress


@pytest.mark.parametrize(
    ("claimed_until", "rows", "running"),
    [
        (None, [], None),
        (ahead(1), [attempt(1)], None),
        (ahead(1), [begun(1)], 1),
        (ahead(1), [begun(1), begun(2)], 2),
        (ahead(1), [begun(1), attempt(2)], None),
        (NOW, [begun(1)], None),
        (None, [begun(1)], None),
        (None, [begun(1, requested_at=ahead(0.01))], 1),  # began after the lead was read
    ],
)
def test_the_last_attempt_of_a_claimed_lead_is_running(claimed_until, rows, running):
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
def test_an_outcome_may_be_written_with_the_specifications_columns(columns, known):
    row = begun(1, **columns)

    assert row.has_outcome is known
    assert (error_text(row, running=None) == OUTCOME_UNKNOWN) is not known


# --- delivery control ------------------------------------------------------------------------------------------------

PAUSED = {"paused_at": ago(60), "paused_by": "anna", "pause_reason": "maintenance"}


def second_sentence(control, lead):
    summary = status_summary(lead, [], now=NOW, policy=POLICY, control=control)
    return summary.removeprefix(f"{status_summary(lead, [], now=NOW, policy=POLICY)}")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ""),
        (PAUSED, " Delivery paused by anna at 2026-01-21T10:29:00Z: maintenance."),
        (
            {"circuit_opened_at": ago(3600), "next_probe_at": ahead(90)},
            " Customer marked as down since 2026-01-21T09:30:00Z; next recovery check in 1 min 30 s.",
        ),
        (
            {"circuit_opened_at": ago(3600), "next_probe_at": ago(1)},
            " Customer marked as down since 2026-01-21T09:30:00Z; the next lead checks whether it has recovered.",
        ),
        (
            PAUSED | {"circuit_opened_at": ago(3600), "next_probe_at": ago(1)},
            " Delivery paused by anna at 2026-01-21T10:29:00Z: maintenance.",
        ),
    ],
)
def test_a_second_sentence_explains_the_wait(columns, words):
    assert second_sentence(DeliveryControl(**columns), lead("READY", next_attempt_at=ago(5))) == words


@pytest.mark.parametrize(
    "at_rest", [lead("RECEIVED", next_attempt_at=ago(1)), lead("DELIVERED"), lead("FAILED"), lead("READY", **CLAIMED)]
)
def test_a_lead_that_does_not_wait_has_one_sentence(at_rest):
    assert second_sentence(DeliveryControl(**PAUSED), at_rest) == ""
