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


@pytest.mark.parametrize(("failures", "delay"), [(1, 30), (2, 60), (3, 120), (4, 240)])
def test_the_wait_doubles_after_every_failure(failures, delay):
    assert POLICY.delay_after(failures) == seconds(delay)


@pytest.mark.parametrize("failures", [0, -1])
def test_without_a_failure_there_is_no_wait(failures):
    assert POLICY.delay_after(failures) == seconds(0)


def test_the_base_can_be_a_fraction_of_a_second():
    assert RetryPolicy(5, timedelta(milliseconds=50)).delay_after(3) == timedelta(milliseconds=200)


@pytest.mark.parametrize("base", [timedelta(microseconds=1), HALF_A_MINUTE, DAY, timedelta.max])
@pytest.mark.parametrize("failures", [64, 65, 1000, 10**9, 10**30])
def test_the_wait_is_never_longer_than_a_day(base, failures):
    assert RetryPolicy(5, base).delay_after(failures) == DAY


def test_a_wait_just_under_a_day_is_not_shortened():
    assert POLICY.delay_after(12) == seconds(61_440)
    assert POLICY.delay_after(13) == DAY


def test_a_base_of_zero_never_waits():
    assert RetryPolicy(5, timedelta(0)).delay_after(10**9) == seconds(0)


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


# The verdict


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_means_delivered(status):
    assert classify_response(status) is ResponseClass.DELIVERED


@pytest.mark.parametrize("status", [None, 429, 500, 502, 503, 504, 599])
def test_a_temporary_failure_is_retried(status):
    assert classify_response(status) is ResponseClass.RETRY


@pytest.mark.parametrize("status", [100, 101, 199, 300, 301, 302, 307, 399, 600, 999, 0, -1])
def test_any_other_status_is_permanent(status):
    assert classify_response(status) is ResponseClass.PERMANENT


@pytest.mark.parametrize("status", [status for status in range(400, 500) if status != 429])
def test_a_4xx_other_than_429_is_permanent(status):
    assert classify_response(status) is ResponseClass.PERMANENT


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
    "header",
    [
        "Wed, 21 Jan 2026 10:32:00 GMT",
        "Wednesday, 21-Jan-26 10:32:00 GMT",
        "Wed Jan 21 10:32:00 2026",
        " Wed, 21 Jan 2026 10:32:00 GMT ",
    ],
)
def test_all_three_forms_of_an_http_date_are_parsed(header):
    assert retry_after(header, now=NOW) == seconds(120)


def test_a_day_of_one_digit_is_padded_with_a_space_in_the_oldest_form():
    assert retry_after("Thu Jan  1 00:00:30 2026", now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds(30)


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@pytest.mark.parametrize(("number", "month"), list(enumerate(MONTHS, start=1)))
def test_every_month_is_known(number, month):
    now = datetime(2026, number, 15, 12, tzinfo=UTC)

    assert retry_after(f"Mon, 15 {month} 2026 12:00:45 GMT", now=now) == seconds(45)


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        ("Wed, 21 Jan 2026 10:29:59 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),  # 94 is 1994, not 2094: that would be more than 50 years ahead
        ("Sun Nov  6 08:49:37 1994", 0),
        ("Wed, 21 Jan 2026 11:30:00 GMT", 3600),
        ("Wed, 21 Jan 2026 11:30:01 GMT", 3600),
        ("Thursday, 21-Jan-27 10:30:00 GMT", 3600),
        ("Tuesday, 21-Jan-76 10:30:00 GMT", 3600),  # 2076, just 50 years ahead
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
    ],
)
def test_a_date_gives_at_least_zero_and_at_most_an_hour(header, delay):
    assert retry_after(header, now=NOW) == seconds(delay)


def test_a_leap_second_is_invalid_because_datetime_has_none():
    assert retry_after("Wed, 21 Jan 2026 10:30:60 GMT", now=NOW) is None


def test_a_date_is_in_gmt_for_any_time_zone_of_now():
    now = NOW.astimezone(timezone(timedelta(hours=9)))

    assert retry_after("Wed, 21 Jan 2026 10:32:00 GMT", now=now) == seconds(120)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", " ", "soon", "1.5", "1e3", "+5", "--5", "٣", "５", "1 2", "5, 10", "120s", "0x10", "nan", "1_000"),
        *("2026-01-21T10:32:00Z", "21 Jan 2026 10:32:00 GMT", "Wed, 21 Jan 2026 10:32:00", "Wed, 21 Jan 2026"),
        *("Wed, 21 Jan 2026 10:32:00 CET", "Wed, 21 Jan 2026 10:32:00 +0100", "Wed, 21 Jän 2026 10:32:00 GMT"),
        *("Wed, 31 Feb 2026 10:32:00 GMT", "Wed, 00 Jan 2026 10:32:00 GMT"),
        *("Wed, 21 Jan 2026 24:00:00 GMT", "Wed, 21 Jan 2026 10:60:00 GMT", "Wed, ٢١ Jan 2026 10:32:00 GMT"),
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
