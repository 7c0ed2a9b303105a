"""The numbers of the dashboard, on both databases."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.core.cache import cache
from django.utils import timezone

from leads.models import LeadStatus
from stats.admin import dashboard_queries
from stats.admin.dashboard_queries import WINDOWS, Failures
from tests import make

pytestmark = pytest.mark.django_db

#: A Wednesday in winter, 16:42 in Berlin.
NOW = datetime(2026, 1, 21, 15, 42, 7, tzinfo=UTC)
DAY, WEEK, MONTH = WINDOWS["24h"], WINDOWS["7d"], WINDOWS["30d"]


@pytest.fixture(autouse=True)
def _empty_cache_and_the_time_zone_of_berlin():
    cache.clear()
    with timezone.override("Europe/Berlin"):
        yield
    cache.clear()


def ago(**parts):
    return NOW - timedelta(**parts)


def local(times):
    return [timezone.localtime(each).strftime("%d.%m. %H:%M") for each in times]


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "first", "last"),
    [
        (DAY, ["20.01. 17:00", "20.01. 18:00"], ["21.01. 16:00", "21.01. 17:00"]),
        (WEEK, ["14.01. 18:00", "15.01. 00:00"], ["21.01. 12:00", "21.01. 18:00"]),
        (MONTH, ["23.12. 00:00", "24.12. 00:00"], ["21.01. 00:00", "22.01. 00:00"]),
    ],
)
def test_bars_start_on_local_hours_or_days_and_the_last_one_is_the_current(window, first, last):
    edges = local(window.edges(NOW))

    assert (edges[:2], edges[-2:], len(edges)) == (first, last, window.bars + 1)


def test_every_bar_is_an_hour_long_when_summer_time_ends():
    edges = DAY.edges(datetime(2026, 10, 25, 12, tzinfo=UTC))

    assert {later - earlier for earlier, later in pairwise(edges)} == {timedelta(hours=1)}


# --- traffic ---------------------------------------------------------------------------------------------------------


def test_leads_are_counted_by_hour_and_status():
    make.lead(received_at=datetime(2026, 1, 21, 14, 59, 59, 999999, tzinfo=UTC), status=LeadStatus.DELIVERED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 0, tzinfo=UTC), status=LeadStatus.DELIVERED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 30, tzinfo=UTC), status=LeadStatus.REJECTED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 31, tzinfo=UTC), status=LeadStatus.REJECTED)

    bars = dashboard_queries.traffic(DAY, now=NOW).bars

    assert bars[-1].leads == {"DELIVERED": 1, "REJECTED": 2}
    assert bars[-2].leads == {"DELIVERED": 1}
    assert sum(bar.leads.total() for bar in bars) == 4


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_window_starts_with_its_first_bar(window):
    start = window.edges(NOW)[0]
    make.lead(received_at=start - timedelta(microseconds=1))
    make.lead(received_at=start)

    traffic = dashboard_queries.traffic(window, now=NOW)

    assert traffic.leads == {"RECEIVED": 1}
    assert traffic.bars[0].leads == {"RECEIVED": 1}


def test_days_are_local_days_when_summer_time_ends():
    at = datetime(2026, 10, 27, 12, tzinfo=UTC)
    make.lead(received_at=datetime(2026, 10, 24, 21, 59, tzinfo=UTC))  # 23:59, summer time
    make.lead(received_at=datetime(2026, 10, 24, 22, 0, tzinfo=UTC))  # 00:00 of the 25th
    make.lead(received_at=datetime(2026, 10, 25, 22, 59, tzinfo=UTC))  # 23:59 of the 25th, winter time
    make.lead(received_at=datetime(2026, 10, 25, 23, 0, tzinfo=UTC))  # 00:00 of the 26th

    by_day = [bar.leads.total() for bar in dashboard_queries.traffic(MONTH, now=at).bars]

    assert by_day[-4:] == [1, 2, 1, 0]


def test_hours_are_local_hours_also_with_an_offset_of_45_minutes():
    with timezone.override("Asia/Kathmandu"):
        make.lead(received_at=datetime(2026, 1, 21, 14, 14, tzinfo=UTC))  # 19:59
        make.lead(received_at=datetime(2026, 1, 21, 14, 15, tzinfo=UTC))  # 20:00

        bars = dashboard_queries.traffic(DAY, now=NOW).bars

    assert [bar.leads.total() for bar in bars[-3:]] == [1, 1, 0]


def test_percentiles_of_the_delivery_time():
    empty = dashboard_queries.traffic(WEEK, now=NOW)
    assert (empty.median, empty.p95) == (None, None)
    for number in range(1, 102):
        at = ago(minutes=5)
        make.lead(received_at=at, status=LeadStatus.DELIVERED, delivered_at=at + timedelta(milliseconds=250 * number))
    make.lead(received_at=ago(days=3), status=LeadStatus.DELIVERED, delivered_at=NOW)
    make.lead(received_at=ago(minutes=5), status=LeadStatus.DELIVERED, delivered_at=None)

    traffic = dashboard_queries.traffic(DAY, now=NOW)

    assert traffic.median == pytest.approx(51 / 4, abs=0.01)
    assert traffic.p95 == pytest.approx(96 / 4, abs=0.01)


def test_first_attempts_count_if_their_outcome_is_known():
    first, second, running, earlier = (make.lead(status=LeadStatus.FAILED) for _ in range(4))
    make.attempt(first, requested_at=ago(hours=2), response_status=200)
    make.attempt(second, requested_at=ago(hours=2), response_status=503)
    make.attempt(second, requested_at=ago(hours=1), response_status=200)
    make.attempt(running, requested_at=ago(hours=1), finished_at=None)
    make.attempt(earlier, requested_at=ago(days=2), response_status=200)

    traffic = dashboard_queries.traffic(DAY, now=NOW)

    assert (traffic.first_attempts, traffic.first_attempts_succeeded) == (2, 1)


def test_the_most_frequent_rejection_reason_is_first():
    for reason in ("NOT_HOMEOWNER", "ZIP_NOT_66XXX", "ZIP_NOT_66XXX"):
        make.lead(received_at=ago(hours=1), status=LeadStatus.REJECTED, rejection_reason=reason)
    make.lead(received_at=ago(days=2), status=LeadStatus.REJECTED, rejection_reason="NOT_HOMEOWNER")
    make.lead(received_at=ago(hours=1), status=LeadStatus.FAILED, rejection_reason="MISSING_REQUIRED_FIELD")

    assert list(dashboard_queries.traffic(DAY, now=NOW).rejections.items()) == [
        ("ZIP_NOT_66XXX", 2),
        ("NOT_HOMEOWNER", 1),
    ]


# --- state -----------------------------------------------------------------------------------------------------------


def test_the_state_without_leads():
    state = dashboard_queries.state(now=NOW)

    assert (state.has_leads, state.need_attention, state.failures, state.processes) == (False, 0, [], [])
    assert (state.in_progress.leads, state.in_progress.oldest_id) == (0, None)


def test_leads_with_a_next_attempt_are_in_progress():
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None, received_at=ago(days=9))
    make.lead(status=LeadStatus.DELIVERED, received_at=ago(days=8))
    oldest = make.lead(status=LeadStatus.FAILED, next_attempt_at=NOW + timedelta(hours=1), received_at=ago(days=7))
    make.lead(next_attempt_at=NOW, received_at=NOW)

    in_progress = dashboard_queries.state(now=NOW).in_progress

    assert (in_progress.leads, in_progress.oldest_id, in_progress.oldest_received_at) == (2, oldest.pk, ago(days=7))


def test_a_lead_that_was_redelivered_is_not_the_oldest_first_run():
    make.lead(status=LeadStatus.READY, next_attempt_at=NOW, received_at=ago(days=7), uncounted_attempts=5)
    make.lead(status=LeadStatus.READY, next_attempt_at=NOW, received_at=ago(hours=1))

    assert dashboard_queries.state(now=NOW).in_progress.oldest_first_run == ago(hours=1)


def test_leads_that_need_attention_are_grouped_by_the_last_response():
    failed = LeadStatus.PERMANENTLY_FAILED
    for days in (3, 5):
        make.lead(status=failed, last_answer="503", received_at=ago(days=days))
    make.lead(status=failed, last_answer="422", received_at=ago(days=1))
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None, last_answer=None, received_at=ago(days=2))
    make.lead(status=failed, last_answer="503", received_at=ago(days=9), resolved_at=NOW)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=NOW, last_answer="503", received_at=ago(days=9))

    state = dashboard_queries.state(now=NOW)

    assert state.failures[0] == Failures("503", 2, ago(days=5))
    assert set(state.failures[1:]) == {Failures("422", 1, ago(days=1)), Failures(None, 1, ago(days=2))}
    assert state.need_attention == 4


# --- cache -----------------------------------------------------------------------------------------------------------


def test_numbers_are_cached_with_their_time(django_assert_num_queries):
    dashboard_queries.traffic(DAY, now=NOW)
    dashboard_queries.state(now=NOW)
    make.lead(received_at=NOW)

    with django_assert_num_queries(0):
        traffic, state = (
            dashboard_queries.traffic(DAY, now=NOW + timedelta(seconds=5)),
            dashboard_queries.state(now=NOW),
        )

    assert (traffic.at, traffic.leads.total(), state.has_leads) == (NOW, 0, False)
