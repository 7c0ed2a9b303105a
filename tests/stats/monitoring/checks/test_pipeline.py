"""What the checks of the pipeline find in numbers, and what they must not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.models import DeliveryControl
from stats.models import Heartbeat
from stats.monitoring.checks.pipeline import IncidentKind, Snapshot, SourceActivity, evaluate
from stats.monitoring.checks.result import CheckResult, Verdict
from stats.monitoring.counting import AttemptCounts

#: A Wednesday.
NOW = datetime(2026, 1, 21, 15, 42, tzinfo=UTC)


def process(kind: str, *, started: float = 3600, seen: float = 0) -> Heartbeat:
    """Return a process that started, and was last seen, some seconds ago."""
    return Heartbeat(name=kind, kind=kind, started_at=ago(seconds=started), seen_at=ago(seconds=seen))


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


GOOD = Snapshot(
    taken_at=NOW,
    queue_depth=3,
    processes=[process("worker"), process("worker"), process("beat")],
    control=DeliveryControl(),
    late=0,
    late_since=None,
    attempts=AttemptCounts(finished=100, failed=3),
)


def verdicts(snapshot: Snapshot) -> dict[str, Verdict]:
    return {result.check: result.verdict for result in evaluate(snapshot)}


def failures(snapshot: Snapshot) -> list[CheckResult]:
    return [result for result in evaluate(snapshot) if result.verdict is Verdict.FAILURE]


def test_good_numbers_pass_every_check() -> None:
    assert set(verdicts(GOOD).values()) == {Verdict.OK}
    assert set(verdicts(GOOD)) == set(IncidentKind) - {IncidentKind.SOURCE_SILENT}


ONE_FAILURE = [
    ({"queue_depth": None}, IncidentKind.QUEUE_UNAVAILABLE, {}),
    ({"queue_depth": 1001}, IncidentKind.QUEUE_DEEP, {"depth": 1001}),
    ({"processes": [process("beat")]}, IncidentKind.NO_WORKER, {"running": 0}),
    (
        {"processes": [process("worker"), process("beat", seen=180)]},
        IncidentKind.NO_BEAT,
        {"running": 0, "since": "2026-01-21T15:39:00+00:00"},
    ),
    (
        {"late": 7, "late_since": ago(minutes=6)},
        IncidentKind.LEADS_STUCK,
        {"leads": 7, "since": "2026-01-21T15:36:00+00:00"},
    ),
    ({"attempts": AttemptCounts(10, 6)}, IncidentKind.DELIVERIES_FAIL, {"attempts": 10, "failed": 6, "minutes": 10}),
    (
        {"control": DeliveryControl(circuit_opened_at=ago(seconds=1))},
        IncidentKind.CUSTOMER_DOWN,
        {"since": "2026-01-21T15:41:59+00:00"},
    ),
    (
        {"control": DeliveryControl(paused_at=ago(hours=1))},
        IncidentKind.DELIVERY_PAUSED,
        {"since": "2026-01-21T14:42:00+00:00"},
    ),
]


@pytest.mark.parametrize(("numbers", "kind", "facts"), ONE_FAILURE)
def test_one_bad_number_is_one_failure(
    numbers: dict[str, object], kind: IncidentKind, facts: dict[str, object]
) -> None:
    snapshot = replace(GOOD, **numbers)  # type: ignore[arg-type]

    [found] = failures(snapshot)

    assert (found.check, found.facts) == (kind, facts)
    expected = {IncidentKind.QUEUE_DEEP} if snapshot.queue_depth is None else set()
    assert {check for check, verdict in verdicts(snapshot).items() if verdict is Verdict.UNKNOWN} == expected


NO_FAILURE = [
    {"queue_depth": 1000},
    {"attempts": AttemptCounts(10, 5)},
    {"control": DeliveryControl(paused_at=ago(minutes=59))},
    {"processes": [process("worker"), process("beat"), process("beat")]},
]


@pytest.mark.parametrize("numbers", NO_FAILURE)
def test_numbers_at_the_threshold_are_no_failure(numbers: dict[str, object]) -> None:
    assert failures(replace(GOOD, **numbers)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attempts", "failed", "expected"),
    [(0, 0, Verdict.UNKNOWN), (4, 4, Verdict.UNKNOWN), (4, 1, Verdict.OK), (5, 5, Verdict.FAILURE)],
)
def test_a_few_failures_prove_nothing_but_a_few_successes_do(attempts: int, failed: int, expected: Verdict) -> None:
    assert verdicts(replace(GOOD, attempts=AttemptCounts(attempts, failed)))[IncidentKind.DELIVERIES_FAIL] is expected


@pytest.mark.parametrize(("seconds", "expected"), [(2, Verdict.UNKNOWN), (15, Verdict.FAILURE)])
def test_a_process_may_start_after_the_others(seconds: int, expected: Verdict) -> None:
    snapshot = replace(GOOD, processes=[process("worker", started=seconds), process("beat", seen=9 * 3600)])

    assert verdicts(snapshot)[IncidentKind.NO_BEAT] is expected
    assert verdicts(snapshot)[IncidentKind.NO_WORKER] is Verdict.OK


def test_late_leads_are_a_warning_until_some_are_stuck() -> None:
    [result] = [each for each in evaluate(replace(GOOD, late=3, late_since=ago(minutes=2))) if each.facts.get("leads")]

    assert (result.verdict, result.facts) == (Verdict.WARNING, {"leads": 3, "since": "2026-01-21T15:40:00+00:00"})


def test_a_pause_is_a_warning_at_first_and_its_reason_is_not_stored() -> None:
    control = DeliveryControl(paused_at=ago(minutes=1), paused_by="otto", pause_reason="maintenance")
    snapshot = replace(GOOD, control=control, waiting=4)
    [result] = [each for each in evaluate(snapshot) if each.check == IncidentKind.DELIVERY_PAUSED]

    assert result.verdict is Verdict.WARNING
    assert result.facts == {"since": "2026-01-21T15:41:00+00:00"}
    assert result.private_facts == {"by": "otto", "reason": "maintenance", "waiting": 4}


# --- sources -----------------------------------------------------------------------------------------------

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 1, 21, tzinfo=UTC)


def office(leads: int = 10, *, first: int = 8, last: int = 18, weekend: bool = False) -> dict[datetime, int]:
    """Return two weeks of a source that sends from the first to the last hour of working days, up to yesterday."""
    days = [MIDNIGHT - DAY * back for back in range(1, 15)]
    return {
        day + HOUR * hour: leads for day in days if weekend or day.weekday() < 5 for hour in range(first, last) if leads
    }


def is_silent(hours: dict[datetime, int], *, last_at: datetime, now: datetime) -> bool:
    source = SourceActivity("portal", last_at, {hour: leads for hour, leads in hours.items() if hour < last_at})
    found = [each for each in evaluate(replace(GOOD, taken_at=now, sources=(source,))) if each.subject == "portal"]
    assert len(found) == 1
    return found[0].verdict is Verdict.FAILURE


YESTERDAY_EVENING = MIDNIGHT - DAY + HOUR * 18

SITUATIONS = [
    ("at night after a working day", MIDNIGHT + HOUR * 3, False),
    ("before the office opens", MIDNIGHT + HOUR * 8, False),
    ("when it has just opened", MIDNIGHT + HOUR * 8.9, False),
    ("an hour after it should have sent", MIDNIGHT + HOUR * 9, True),
    ("two days later, at night", MIDNIGHT + HOUR * 26, True),
]


@pytest.mark.parametrize(("situation", "now", "expected"), SITUATIONS, ids=[name for name, *_ in SITUATIONS])
def test_a_source_with_office_hours_is_expected_in_office_hours(situation: str, now: datetime, expected: bool) -> None:
    assert is_silent(office(), last_at=YESTERDAY_EVENING, now=now) is expected


def test_a_gap_within_the_day_counts_in_whole_hours() -> None:
    hours = office() | {MIDNIGHT + HOUR * hour: 10 for hour in range(8, 12)}
    last_at = MIDNIGHT + HOUR * 12.5

    assert not is_silent(hours, last_at=last_at, now=MIDNIGHT + HOUR * 13.9)
    assert is_silent(hours, last_at=last_at, now=MIDNIGHT + HOUR * 14)


def test_a_source_is_not_expected_on_the_weekend_but_on_monday() -> None:
    friday = datetime(2026, 1, 23, tzinfo=UTC)
    hours = office() | {friday - DAY * back + HOUR * hour: 10 for back in range(3) for hour in range(8, 18)}
    last_at = friday + HOUR * 18

    for now in (friday + DAY + HOUR * 12, friday + 2 * DAY + HOUR * 12, friday + 3 * DAY + HOUR * 4):
        assert not is_silent(hours, last_at=last_at, now=now), now
    assert is_silent(hours, last_at=last_at, now=friday + 3 * DAY + HOUR * 9)


def test_a_source_with_few_leads_is_silent_only_after_days() -> None:
    hours = office(1, first=8, last=10, weekend=True)  # two a day

    assert not is_silent(hours, last_at=MIDNIGHT - DAY * 2 + HOUR * 10, now=MIDNIGHT + HOUR * 12)
    assert is_silent(hours, last_at=MIDNIGHT - DAY * 3 + HOUR * 10, now=MIDNIGHT + HOUR * 12)


def test_one_day_or_a_few_days_create_no_expectation() -> None:
    one_big_day = {MIDNIGHT - DAY * 7 + HOUR * hour: 500 for hour in range(8, 18)}
    first_week = {hour: leads for hour, leads in office(weekend=True).items() if hour > MIDNIGHT - DAY * 6}
    now = MIDNIGHT + HOUR * 12

    assert not is_silent(one_big_day, last_at=MIDNIGHT - DAY * 7 + HOUR * 18, now=now)
    assert not is_silent(first_week, last_at=YESTERDAY_EVENING, now=now)


@given(
    hours=st.dictionaries(st.integers(1, 14 * 24).map(lambda back: MIDNIGHT - HOUR * back), st.integers(1, 100)),
    minutes=st.integers(0, 59),
)
def test_no_source_is_silent_within_an_hour_of_its_last_lead(hours: dict[datetime, int], minutes: int) -> None:
    now = MIDNIGHT + timedelta(minutes=minutes)

    assert not is_silent(hours, last_at=MIDNIGHT, now=now)
