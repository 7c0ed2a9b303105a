from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.retry import GiveUp, ResponseClass, RetryPolicy, after_failure, classify_response, retry_after

NOW = datetime(2026, 1, 21, 10, 30, tzinfo=UTC)
HALF_A_MINUTE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)

POLICY = RetryPolicy(max_attempts=5, base=HALF_A_MINUTE)


def seconds(number):
    return timedelta(seconds=number)


# The schedule


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(-1, 0), (0, 0), (1, 30), (2, 60), (3, 120), (4, 240), (12, 61_440), (13, 86_400), (10**30, 86_400)],
)
def test_the_wait_doubles_after_every_failure_up_to_a_day(failures, delay):
    assert POLICY.delay_after(failures) == seconds(delay)


@pytest.mark.parametrize(
    ("base", "failures", "delay"),
    [
        (timedelta(milliseconds=50), 3, timedelta(milliseconds=200)),
        (timedelta(microseconds=1), 64, DAY),
        (timedelta.max, 10**9, DAY),
        (timedelta(0), 10**9, timedelta(0)),
    ],
)
def test_the_base_can_have_any_length(base, failures, delay):
    assert RetryPolicy(5, base).delay_after(failures) == delay


@pytest.mark.parametrize(("attempts", "over"), [(0, False), (4, False), (5, True), (6, True)])
def test_after_the_last_attempt_the_policy_is_exhausted(attempts, over):
    assert POLICY.exhausted(attempts) is over


@given(st.integers(1, 200), st.timedeltas(timedelta(0), DAY), st.lists(st.none() | st.integers(500, 599)))
def test_endless_failures_always_exhaust_the_attempts(max_attempts, base, answers):
    policy = RetryPolicy(max_attempts, base)
    attempts = 0
    while not policy.exhausted(attempts):
        assert classify_response(answers[attempts % len(answers)] if answers else None) is ResponseClass.RETRY
        attempts += 1
        assert timedelta(0) <= policy.delay_after(attempts) <= policy.delay_after(attempts + 1) <= DAY

    assert attempts == max_attempts


# The response


@pytest.mark.parametrize(
    ("expected", "statuses"),
    [
        (ResponseClass.DELIVERED, [200, 204, 299]),
        (ResponseClass.RETRY, [None, 429, 500, 503, 599]),
        (ResponseClass.PERMANENT, [-1, 0, 100, 199, 300, 399, *range(400, 429), *range(430, 500), 600, 999]),
    ],
)
def test_the_status_decides_the_class(expected, statuses):
    assert {classify_response(status) for status in statuses} == {expected}


@pytest.mark.parametrize(
    ("status", "failures", "expected"),
    [
        (422, 1, GiveUp.REJECTED),
        (422, 5, GiveUp.REJECTED),
        (503, 5, GiveUp.EXHAUSTED),
        (None, 4, seconds(240)),
        (429, 0, HALF_A_MINUTE),
    ],
)
def test_a_failure_is_followed_by_another_attempt_or_by_giving_up(status, failures, expected):
    assert after_failure(POLICY, status, failures, None, now=NOW) == expected


# Retry-After


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        *(("0", 0), ("1", 1), ("120", 120), (" 120 ", 120), ("007", 7), ("3600", 3600)),
        *(("3601", 3600), ("86400", 3600), ("9" * 9, 3600), ("9" * 10, 3600), ("9" * 6000, 3600)),
        *(("0" * 6000 + "5", 5), ("-1", 0), ("-" + "9" * 6000, 0)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_seconds_are_parsed_and_at_most_an_hour(header, delay):
    assert retry_after(header, now=NOW) == seconds(delay)


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        (" Wed, 21 Jan 2026 10:32:00 GMT ", 120),
        ("Wednesday, 21-Jan-26 10:32:00 GMT", 120),
        ("Wed Jan 21 10:32:00 2026", 120),
        ("Wed, 21 Jan 2026 10:29:59 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),  # 94 is 1994, not 2094: that would be more than 50 years ahead
        ("Sun Nov  6 08:49:37 1994", 0),  # a day of one digit
        ("Wed, 21 Jan 2026 11:30:01 GMT", 3600),
        ("Thursday, 21-Jan-27 10:30:00 GMT", 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
    ],
)
def test_a_date_gives_at_least_zero_and_at_most_an_hour(header, delay):
    assert retry_after(header, now=NOW) == seconds(delay)


def test_a_date_is_in_gmt_for_any_time_zone_of_now():
    now = NOW.astimezone(timezone(timedelta(hours=9)))

    assert retry_after("Wed, 21 Jan 2026 10:32:00 GMT", now=now) == seconds(120)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", " ", "soon", "1.5", "1e3", "+5", "--5", "٣", "5, 10", "120s", "nan", "inf", "1_000"),
        *("2026-01-21T10:32:00Z", "Wed, 21 Jan 2026 10:32:00", "Wed, 21 Jan 2026 10:32:00 +0100"),
        *("Wed, 31 Feb 2026 10:32:00 GMT", "Wed, 21 Jan 2026 10:30:60 GMT"),  # datetime has no leap seconds
    ],
)
def test_an_invalid_header_counts_as_absent(header):
    assert retry_after(header, now=NOW) is None


@given(st.none() | st.text() | st.integers().map(str) | st.text("0123456789 :,-GMTJan", max_size=40))
def test_any_header_gives_none_or_at_most_an_hour(header):
    delay = retry_after(header, now=NOW)

    assert delay is None or timedelta(0) <= delay <= HOUR


# Both together


@pytest.mark.parametrize(
    ("failures", "header", "delay"),
    [
        (1, None, 30),
        (1, "nonsense", 30),
        (1, "10", 30),
        (1, "-10", 30),
        (1, "31", 31),
        (4, "120", 240),
        (1, "Wed, 21 Jan 2026 10:32:00 GMT", 120),
        (1, "86400", 3600),
        (12, "3600", 61_440),
    ],
)
def test_the_longer_of_schedule_and_retry_after_counts(failures, header, delay):
    assert after_failure(replace(POLICY, max_attempts=99), 503, failures, header, now=NOW) == seconds(delay)
