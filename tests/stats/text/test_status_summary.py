"""Where a lead stands, in one sentence; nothing here needs a database."""

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


NOTHING_MORE = "nothing more happens to it by itself"
LOST = {"next_attempt_at": ago(200), "claimed_until": ago(20)}
HELD = {"next_attempt_at": ago(8), "claimed_until": ahead(40)}

SENTENCES = [
    # nothing has happened yet
    (lead("RECEIVED", next_attempt_at=ahead(3)), [], "Received; validation is due in 3 s"),
    (
        lead("RECEIVED", next_attempt_at=ago(7)),
        [],
        "Received; validation has been due for 7 s and no worker has taken it yet",
    ),
    (lead("RECEIVED", **HELD), [], "Received; a worker has it in hand for validation"),
    (lead("RECEIVED", claimed_until=ahead(4)), [], "Received; a worker has it in hand for validation"),
    (lead("RECEIVED"), [], f"Received; {NOTHING_MORE}"),
    (
        lead("RECEIVED", next_attempt_at=ahead(3), uncounted_attempts=1),
        attempts(1),
        "To be processed anew, from what was posted; validation is due in 3 s",
    ),
    # the ends
    (lead("REJECTED"), [], f"Rejected; {NOTHING_MORE}"),
    (
        lead("REJECTED", rejection_reason="ZIP_NOT_66XXX"),
        [],
        f"Rejected: its zip code is not 66xxx (ZIP_NOT_66XXX); {NOTHING_MORE}",
    ),
    (lead("REJECTED", rejection_reason="BY_HAND"), [], f"Rejected: BY_HAND; {NOTHING_MORE}"),
    (lead("DELIVERED"), [], "Delivered; nothing is left to do"),
    (
        lead("DELIVERED"),
        [attempt(1), attempt(2, 200)],
        "Delivered by attempt 2 of 5 at 2026-01-21T10:29:55Z; nothing is left to do",
    ),
    (
        lead("DELIVERED"),
        [begun(1, success=True)],
        "Delivered by attempt 1 of 5 at 2026-01-21T10:29:56Z; nothing is left to do",
    ),
    (
        lead("DELIVERED", uncounted_attempts=1),
        [attempt(1, 200), attempt(2)],
        "Delivered by attempt 1 at 2026-01-21T10:29:55Z; nothing is left to do",
    ),
    (lead("PERMANENTLY_FAILED"), attempts(5), f"Given up after 5 attempts: HTTP 503; {NOTHING_MORE}"),
    (lead("PERMANENTLY_FAILED"), attempts(1), f"Given up after 1 attempt: HTTP 503; {NOTHING_MORE}"),
    (lead("PERMANENTLY_FAILED"), [], f"Given up without an attempt; {NOTHING_MORE}"),
    (
        lead("PERMANENTLY_FAILED", resolved_at=ago(1)),
        attempts(5),
        "Given up after 5 attempts: HTTP 503; somebody marked it as settled",
    ),
    (
        lead("PERMANENTLY_FAILED", uncounted_attempts=5),
        attempts(7),
        f"Given up after 2 attempts: HTTP 503; {NOTHING_MORE}",
    ),
    (lead("PERMANENTLY_FAILED", uncounted_attempts=5), attempts(5), f"Given up without an attempt; {NOTHING_MORE}"),
    (
        lead("PERMANENTLY_FAILED"),
        [*attempts(4), begun(5)],
        f"Given up after 5 attempts: outcome unknown; {NOTHING_MORE}",
    ),
    (
        lead("PERMANENTLY_FAILED"),
        [attempt(1), attempt(2, 422)],
        f"Refused by the customer for good: attempt 2 was answered HTTP 422; {NOTHING_MORE}",
    ),
    # between two attempts
    (lead("READY", next_attempt_at=ahead(3)), [], "Checked and mapped; attempt 1 of 5 is due in 3 s"),
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
        "Attempt 1 of 5 failed: no answer; attempt 2 of 5 is due in 42 s",
    ),
    (
        lead(next_attempt_at=ahead(42)),
        [attempt(1, 200)],
        "Attempt 1 of 5 succeeded; attempt 2 of 5 is due in 42 s",
    ),
    (
        lead(next_attempt_at=ago(70)),
        attempts(2),
        "Attempt 2 of 5 failed with HTTP 503;"
        " attempt 3 of 5 has been due for 1 min 10 s and no worker has taken it yet",
    ),
    (
        lead("READY", **LOST),
        [begun(1)],
        "Attempt 1 of 5 was begun, its outcome is unknown;"
        " attempt 2 of 5 is due: the worker that had it was lost 20 s ago",
    ),
    (
        lead("READY", **LOST),
        [*attempts(4), begun(5)],
        "Attempt 5 of 5 was begun, its outcome is unknown;"
        " giving it up, as it has no attempt left, is due: the worker that had it was lost 20 s ago",
    ),
    (
        lead("READY", next_attempt_at=ahead(1), uncounted_attempts=5),
        attempts(5),
        "To be delivered once more; attempt 1 of 5 (number 6 in all) is due in 1 s",
    ),
    (
        lead(next_attempt_at=ahead(42), uncounted_attempts=3),  # the customer was down
        attempts(3),
        "Attempt 3 failed with HTTP 503; attempt 1 of 5 (number 4 in all) is due in 42 s",
    ),
    (
        lead(rejection_reason="MISSING_REQUIRED_FIELD"),
        [],
        f"Stopped: its phone or the product name is missing (MISSING_REQUIRED_FIELD); {NOTHING_MORE}",
    ),
    # in an attempt
    (
        lead("READY", **HELD),
        [attempt(1), begun(2)],
        "Attempt 1 of 5 failed with HTTP 503; attempt 2 of 5 has been running for 4 s",
    ),
    (lead("READY", **HELD), [begun(1)], "Checked and mapped; attempt 1 of 5 has been running for 4 s"),
    (
        lead("READY", **HELD, uncounted_attempts=1),
        [attempt(1), begun(2)],
        "To be delivered once more; attempt 1 of 5 (number 2 in all) has been running for 4 s",
    ),
    (
        lead("FAILED", **HELD),
        attempts(1),
        "Attempt 1 of 5 failed with HTTP 503; a worker has it in hand for attempt 2 of 5",
    ),
]


@pytest.mark.parametrize(("lead", "attempts", "sentence"), SENTENCES, ids=[words for _, _, words in SENTENCES])
def test_where_a_lead_stands_is_one_sentence(lead, attempts, sentence):
    assert status_summary(lead, attempts, now=NOW, policy=POLICY) == f"{sentence}."


def test_times_are_written_as_the_reader_wants_them():
    told = status_summary(
        lead("DELIVERED"), [attempt(1, 200)], now=NOW, policy=POLICY, show_time=lambda at: f"{at:%H.%M Uhr}"
    )

    assert told.startswith("Delivered by attempt 1 of 5 at 10.29 Uhr;")


@pytest.mark.parametrize(
    ("lead", "in_progress"),
    [
        (lead("RECEIVED", next_attempt_at=ahead(1)), True),
        (lead("READY", next_attempt_at=ago(1)), True),
        (lead("READY", claimed_until=ahead(1)), True),
        (lead("READY", claimed_until=ago(1)), False),
        (lead("FAILED"), False),
        (lead("DELIVERED", next_attempt_at=ahead(1), claimed_until=ahead(1)), False),
    ],
)
def test_a_lead_is_under_way_while_something_will_happen_to_it(lead, in_progress):
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


# --- what keeps a lead -----------------------------------------------------------------------------------------------

HELD_BY_ANNA = {"paused_at": ago(60), "paused_by": "anna", "pause_reason": "their maintenance"}


def kept_by(gate, lead):
    told = status_summary(lead, [], now=NOW, policy=POLICY, control=gate)
    return told.removeprefix(f"{status_summary(lead, [], now=NOW, policy=POLICY)}")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ""),
        (HELD_BY_ANNA, " Delivery is held since 2026-01-21T10:29:00Z by anna: their maintenance."),
        (
            {"circuit_opened_at": ago(3600), "next_probe_at": ahead(90)},
            " The customer is down since 2026-01-21T09:30:00Z; in 1 min 30 s a lead tries whether it is back.",
        ),
        (
            {"circuit_opened_at": ago(3600), "next_probe_at": ago(1)},
            " The customer is down since 2026-01-21T09:30:00Z; the next lead tries whether it is back.",
        ),
        (
            HELD_BY_ANNA | {"circuit_opened_at": ago(3600), "next_probe_at": ago(1)},
            " Delivery is held since 2026-01-21T10:29:00Z by anna: their maintenance.",
        ),
    ],
)
def test_a_second_sentence_says_what_keeps_a_lead(columns, words):
    assert kept_by(DeliveryControl(**columns), lead("READY", next_attempt_at=ago(5))) == words


@pytest.mark.parametrize(
    "at_rest", [lead("RECEIVED", next_attempt_at=ago(1)), lead("DELIVERED"), lead("FAILED"), lead("READY", **HELD)]
)
def test_nothing_keeps_a_lead_that_does_not_wait_to_go_out(at_rest):
    assert kept_by(DeliveryControl(**HELD_BY_ANNA), at_rest) == ""
