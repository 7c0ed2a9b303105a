"""What the rules find in figures, and what they must not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.monitoring.rules import CheckResult, Kind, Snapshot, Source, Thresholds, Verdict, judge

#: A Wednesday.
NOW = datetime(2026, 1, 21, 15, 42, tzinfo=UTC)
LIMITS = Thresholds()

WELL = Snapshot(
    at=NOW,
    queue_depth=3,
    workers=2,
    worker_seen_at=NOW,
    beats=1,
    beat_seen_at=NOW,
    stuck=0,
    stuck_since=None,
    attempts=100,
    failed=3,
    circuit_opened_at=None,
    paused_at=None,
)


def verdicts(seen: Snapshot) -> dict[Kind, Verdict]:
    return {result.kind: result.verdict for result in judge(seen, LIMITS)}


def bad(seen: Snapshot) -> list[CheckResult]:
    return [result for result in judge(seen, LIMITS) if result.verdict is Verdict.BAD]


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_all_is_well() -> None:
    assert set(verdicts(WELL).values()) == {Verdict.GOOD}
    assert set(verdicts(WELL)) == set(Kind) - {Kind.SOURCE_SILENT}


ALONE_BAD = [
    ({"queue_depth": None}, Kind.QUEUE_UNAVAILABLE, {}),
    ({"queue_depth": 1001}, Kind.QUEUE_DEEP, {"depth": 1001}),
    ({"workers": 0, "worker_seen_at": None}, Kind.NO_WORKER, {"alive": 0}),
    ({"beats": 0, "beat_seen_at": ago(minutes=3)}, Kind.NO_BEAT, {"alive": 0, "since": "2026-01-21T15:39:00+00:00"}),
    (
        {"stuck": 7, "stuck_since": ago(minutes=6)},
        Kind.LEADS_STUCK,
        {"leads": 7, "since": "2026-01-21T15:36:00+00:00"},
    ),
    ({"attempts": 10, "failed": 6}, Kind.DELIVERIES_FAIL, {"attempts": 10, "failed": 6, "minutes": 10}),
    ({"circuit_opened_at": ago(seconds=1)}, Kind.CUSTOMER_DOWN, {"since": "2026-01-21T15:41:59+00:00"}),
    ({"paused_at": ago(hours=1)}, Kind.DELIVERY_PAUSED, {"since": "2026-01-21T14:42:00+00:00"}),
]


@pytest.mark.parametrize(("figures", "kind", "facts"), ALONE_BAD)
def test_one_thing_is_bad(figures: dict[str, object], kind: Kind, facts: dict[str, object]) -> None:
    [found] = bad(replace(WELL, **figures))  # type: ignore[arg-type]

    assert (found.kind, found.facts) == (kind, facts)


NOT_BAD = [
    {"queue_depth": 1000},
    {"attempts": 10, "failed": 5},
    {"paused_at": ago(minutes=59)},
    {"workers": 1},
    {"beats": 2},
]


@pytest.mark.parametrize("figures", NOT_BAD)
def test_short_of_the_threshold_all_is_well(figures: dict[str, object]) -> None:
    assert bad(replace(WELL, **figures)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attempts", "failed", "expected"),
    [
        (0, 0, Verdict.UNKNOWN),
        (4, 4, Verdict.UNKNOWN),
        (4, 1, Verdict.GOOD),
        (1, 0, Verdict.GOOD),
        (5, 5, Verdict.BAD),
        (5, 2, Verdict.GOOD),
    ],
)
def test_a_few_failures_prove_nothing_and_a_few_successes_do(attempts: int, failed: int, expected: Verdict) -> None:
    assert verdicts(replace(WELL, attempts=attempts, failed=failed))[Kind.DELIVERIES_FAIL] is expected


def test_how_deep_a_queue_is_that_is_away_is_not_known() -> None:
    assert verdicts(replace(WELL, queue_depth=None))[Kind.QUEUE_DEEP] is Verdict.UNKNOWN


# --- who usually sends -----------------------------------------------------------------------------------------------

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 1, 21, tzinfo=UTC)


def office(leads: int = 10, *, first: int = 8, last: int = 18, weekend: bool = False) -> dict[datetime, int]:
    """Two weeks of a source that sends from the first to the last hour of working days, up to yesterday."""
    days = [MIDNIGHT - DAY * back for back in range(1, 15)]
    return {
        day + HOUR * hour: leads for day in days if weekend or day.weekday() < 5 for hour in range(first, last) if leads
    }


def silent(hours: dict[datetime, int], *, last_at: datetime, now: datetime) -> bool:
    source = Source("portal", last_at, {hour: leads for hour, leads in hours.items() if hour < last_at})
    found = [each for each in judge(replace(WELL, at=now, sources=(source,)), LIMITS) if each.subject == "portal"]
    assert len(found) == 1
    return found[0].verdict is Verdict.BAD


YESTERDAY_EVENING = MIDNIGHT - DAY + HOUR * 18

SITUATIONS = [
    ("in the night after a working day", MIDNIGHT + HOUR * 3, False),
    ("before the office opens", MIDNIGHT + HOUR * 8, False),
    ("as it has just opened", MIDNIGHT + HOUR * 8.9, False),
    ("an hour after it should have begun", MIDNIGHT + HOUR * 9, True),
    ("at noon", MIDNIGHT + HOUR * 12, True),
    ("two days later, at night", MIDNIGHT + HOUR * 26, True),
]


@pytest.mark.parametrize(("situation", "at", "expected"), SITUATIONS, ids=[name for name, *_ in SITUATIONS])
def test_who_sends_in_office_hours_is_missed_in_office_hours(situation: str, now: datetime, expected: bool) -> None:
    assert silent(office(), last_at=YESTERDAY_EVENING, now=now) is expected


def test_a_pause_within_the_day_is_missed_after_whole_hours() -> None:
    hours = office() | {MIDNIGHT + HOUR * hour: 10 for hour in range(8, 12)}
    last_at = MIDNIGHT + HOUR * 12.5

    assert not silent(hours, last_at=last_at, now=MIDNIGHT + HOUR * 13.9)
    assert silent(hours, last_at=last_at, now=MIDNIGHT + HOUR * 14)


def test_nobody_is_missed_on_a_weekend_and_on_monday_he_is() -> None:
    friday = datetime(2026, 1, 23, tzinfo=UTC)
    hours = office() | {friday - DAY * back + HOUR * hour: 10 for back in range(3) for hour in range(8, 18)}
    last_at = friday + HOUR * 18

    for at in (friday + DAY + HOUR * 12, friday + 2 * DAY + HOUR * 12, friday + 3 * DAY + HOUR * 4):
        assert not silent(hours, last_at=last_at, now=at), at
    assert silent(hours, last_at=last_at, now=friday + 3 * DAY + HOUR * 9)


def test_who_sends_little_is_missed_only_after_days() -> None:
    hours = office(1, first=8, last=10, weekend=True)  # two a day

    assert not silent(hours, last_at=MIDNIGHT - DAY * 2 + HOUR * 10, now=MIDNIGHT + HOUR * 12)
    assert silent(hours, last_at=MIDNIGHT - DAY * 3 + HOUR * 10, now=MIDNIGHT + HOUR * 12)


def test_a_single_big_day_a_week_ago_makes_nobody_usual() -> None:
    hours = {MIDNIGHT - DAY * 7 + HOUR * hour: 500 for hour in range(8, 18)}

    assert not silent(hours, last_at=MIDNIGHT - DAY * 7 + HOUR * 18, now=MIDNIGHT + HOUR * 12)


def test_in_the_first_week_nobody_is_missed() -> None:
    hours = {hour: leads for hour, leads in office(weekend=True).items() if hour > MIDNIGHT - DAY * 6}

    assert not silent(hours, last_at=YESTERDAY_EVENING, now=MIDNIGHT + HOUR * 12)


@given(
    hours=st.dictionaries(st.integers(1, 14 * 24).map(lambda back: MIDNIGHT - HOUR * back), st.integers(1, 100)),
    minutes=st.integers(0, 59),
)
def test_within_an_hour_of_the_last_lead_nobody_is_silent(hours: dict[datetime, int], minutes: int) -> None:
    at = MIDNIGHT + timedelta(minutes=minutes)

    assert not silent(hours, last_at=MIDNIGHT, now=at)
