"""The dashboard's dashboard_queries, on both databases."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from leadgateway import queue
from leads.models import LeadStatus
from stats.admin import dashboard_queries
from stats.admin.dashboard_queries import WINDOWS, Failures
from tests import make

pytestmark = pytest.mark.django_db

#: A Wednesday in winter, 16:42 in Berlin.
NOW = datetime(2026, 1, 21, 15, 42, 7, tzinfo=UTC)
DAY, WEEK, MONTH = WINDOWS["24h"], WINDOWS["7d"], WINDOWS["30d"]


@pytest.fixture(autouse=True)
def _nothing_is_kept_and_the_clock_is_berlins():
    cache.clear()
    with timezone.override("Europe/Berlin"):
        yield
    cache.clear()


def ago(**parts):
    return NOW - timedelta(**parts)


def local(moments):
    return [timezone.localtime(moment).strftime("%d.%m. %H:%M") for moment in moments]


# --- windows ---------------------------------------------------------------------------------------------------------


def test_a_day_has_24_hours_of_which_the_last_one_is_running():
    edges = DAY.edges(NOW)

    assert local(edges)[:2] == ["20.01. 17:00", "20.01. 18:00"]
    assert local(edges)[-2:] == ["21.01. 16:00", "21.01. 17:00"]
    assert len(edges) == 25


def test_a_week_is_cut_at_every_sixth_hour_of_the_local_clock():
    edges = WEEK.edges(NOW)

    assert local(edges)[:2] == ["14.01. 18:00", "15.01. 00:00"]
    assert local(edges)[-2:] == ["21.01. 12:00", "21.01. 18:00"]
    assert len(edges) == 29


def test_a_month_is_cut_at_midnight_of_the_local_clock():
    edges = MONTH.edges(NOW)

    assert local(edges)[:2] == ["23.12. 00:00", "24.12. 00:00"]
    assert local(edges)[-2:] == ["21.01. 00:00", "22.01. 00:00"]


def test_the_day_on_which_the_clock_is_put_back_has_25_hours():
    edges = MONTH.edges(datetime(2026, 10, 27, 12, tzinfo=UTC))

    assert {later - earlier for earlier, later in pairwise(edges)} == {timedelta(hours=24), timedelta(hours=25)}
    assert {moment.split()[1] for moment in local(edges)} == {"00:00"}


def test_every_hour_is_an_hour_long_when_the_clock_is_put_back():
    edges = DAY.edges(datetime(2026, 10, 25, 12, tzinfo=UTC))

    assert {later - earlier for earlier, later in pairwise(edges)} == {timedelta(hours=1)}


# --- traffic ---------------------------------------------------------------------------------------------------------


def test_each_lead_is_in_the_bar_of_its_hour_under_its_status():
    make.lead(received_at=datetime(2026, 1, 21, 14, 59, 59, 999999, tzinfo=UTC), status=LeadStatus.DELIVERED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 0, tzinfo=UTC), status=LeadStatus.DELIVERED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 30, tzinfo=UTC), status=LeadStatus.REJECTED)
    make.lead(received_at=datetime(2026, 1, 21, 15, 31, tzinfo=UTC), status=LeadStatus.REJECTED)

    bars = dashboard_queries.traffic(DAY, now=NOW).bars

    assert bars[-1].leads == {"DELIVERED": 1, "REJECTED": 2}
    assert bars[-2].leads == {"DELIVERED": 1}
    assert sum(bar.leads.total() for bar in bars) == 4


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_window_begins_with_its_first_bar(window):
    start = window.edges(NOW)[0]
    make.lead(received_at=start - timedelta(microseconds=1))
    make.lead(received_at=start)

    traffic = dashboard_queries.traffic(window, now=NOW)

    assert traffic.leads == {"RECEIVED": 1}
    assert traffic.bars[0].leads == {"RECEIVED": 1}


def test_days_are_those_of_the_local_clock_also_beyond_a_change_of_it():
    at = datetime(2026, 10, 27, 12, tzinfo=UTC)
    make.lead(received_at=datetime(2026, 10, 24, 21, 59, tzinfo=UTC))  # 23:59, summer time
    make.lead(received_at=datetime(2026, 10, 24, 22, 0, tzinfo=UTC))  # 00:00 of the 25th
    make.lead(received_at=datetime(2026, 10, 25, 22, 59, tzinfo=UTC))  # 23:59 of the 25th, winter time
    make.lead(received_at=datetime(2026, 10, 25, 23, 0, tzinfo=UTC))  # 00:00 of the 26th

    by_day = [bar.leads.total() for bar in dashboard_queries.traffic(MONTH, now=at).bars]

    assert by_day[-4:] == [1, 2, 1, 0]


def test_hours_begin_with_the_local_clocks_also_where_those_begin_at_a_quarter():
    with timezone.override("Asia/Kathmandu"):
        make.lead(received_at=datetime(2026, 1, 21, 14, 14, tzinfo=UTC))  # 19:59
        make.lead(received_at=datetime(2026, 1, 21, 14, 15, tzinfo=UTC))  # 20:00

        bars = dashboard_queries.traffic(DAY, now=NOW).bars

    assert [bar.leads.total() for bar in bars[-3:]] == [1, 1, 0]


def test_the_time_to_delivery_is_told_for_half_and_for_95_percent_of_the_leads():
    for seconds in range(1, 102):
        at = ago(minutes=5)
        make.lead(received_at=at, status=LeadStatus.DELIVERED, delivered_at=at + timedelta(seconds=seconds))
    make.lead(received_at=ago(days=3), status=LeadStatus.DELIVERED, delivered_at=NOW)
    make.lead(received_at=ago(minutes=5), status=LeadStatus.DELIVERED, delivered_at=None)

    traffic = dashboard_queries.traffic(DAY, now=NOW)

    assert traffic.median == pytest.approx(51, abs=0.01)
    assert traffic.p95 == pytest.approx(96, abs=0.01)


def test_fractions_of_a_second_count():
    at = ago(minutes=5)
    make.lead(received_at=at, status=LeadStatus.DELIVERED, delivered_at=at + timedelta(milliseconds=250))

    assert dashboard_queries.traffic(DAY, now=NOW).median == pytest.approx(0.25, abs=0.001)


def test_without_a_delivery_there_is_no_time_to_it():
    make.lead(received_at=ago(minutes=5), status=LeadStatus.FAILED)

    traffic = dashboard_queries.traffic(DAY, now=NOW)

    assert (traffic.median, traffic.p95) == (None, None)


def test_first_attempts_count_when_their_outcome_is_known():
    first, second, running, earlier = (make.lead(status=LeadStatus.FAILED) for _ in range(4))
    make.attempt(first, requested_at=ago(hours=2), response_status=200)
    make.attempt(second, requested_at=ago(hours=2), response_status=503)
    make.attempt(second, requested_at=ago(hours=1), response_status=200)
    make.attempt(running, requested_at=ago(hours=1), finished_at=None)
    make.attempt(earlier, requested_at=ago(days=2), response_status=200)

    traffic = dashboard_queries.traffic(DAY, now=NOW)

    assert (traffic.first_attempts, traffic.first_attempts_succeeded) == (2, 1)


def test_rejection_reasons_come_with_the_most_frequent_first():
    for reason in ("NOT_HOMEOWNER", "ZIP_NOT_66XXX", "ZIP_NOT_66XXX"):
        make.lead(received_at=ago(hours=1), status=LeadStatus.REJECTED, rejection_reason=reason)
    make.lead(received_at=ago(days=2), status=LeadStatus.REJECTED, rejection_reason="NOT_HOMEOWNER")
    make.lead(received_at=ago(hours=1), status=LeadStatus.FAILED, rejection_reason="MISSING_REQUIRED_FIELD")

    assert list(dashboard_queries.traffic(DAY, now=NOW).rejections.items()) == [
        ("ZIP_NOT_66XXX", 2),
        ("NOT_HOMEOWNER", 1),
    ]


def test_the_number_of_queries_does_not_grow_with_the_leads():
    def count_queries():
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            dashboard_queries.traffic(DAY, now=NOW)
            dashboard_queries.state(now=NOW)
        return len(queries)

    def make_leads(number):
        for minutes in range(number):
            at = ago(minutes=7 * minutes)
            make.attempt(make.lead(received_at=at, status=LeadStatus.DELIVERED, delivered_at=NOW), requested_at=at)
            make.lead(received_at=at, status=LeadStatus.PERMANENTLY_FAILED, last_answer=str(minutes))
            make.lead(received_at=at, status=LeadStatus.REJECTED, rejection_reason=str(minutes))

    make_leads(2)
    few = count_queries()
    make_leads(30)

    assert count_queries() == few <= 17


# --- state -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _the_queue_is_away(monkeypatch):
    def away():
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "depth", away)


def test_an_empty_gateway_has_nothing_to_tell():
    state = dashboard_queries.state(now=NOW)

    assert (state.has_leads, state.need_attention, state.failures, state.processes) == (False, 0, [], [])
    assert (state.in_progress.leads, state.in_progress.oldest_id) == (0, None)


def test_under_way_is_what_something_will_happen_to():
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


def test_what_needs_attention_is_grouped_by_the_last_answer():
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


@pytest.mark.usefixtures("_the_queue_is_away")
def test_a_queue_that_is_away_is_told_of():
    assert dashboard_queries.state(now=NOW).queued is None


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_figures_are_kept_and_say_of_when_they_are(django_assert_num_queries):
    dashboard_queries.traffic(DAY, now=NOW)
    dashboard_queries.state(now=NOW)
    make.lead(received_at=NOW)

    with django_assert_num_queries(0):
        traffic, state = (
            dashboard_queries.traffic(DAY, now=NOW + timedelta(seconds=5)),
            dashboard_queries.state(now=NOW),
        )

    assert (traffic.at, traffic.leads.total(), state.has_leads) == (NOW, 0, False)


def test_each_window_is_kept_by_itself():
    make.lead(received_at=ago(days=3))
    dashboard_queries.traffic(DAY, now=NOW)

    assert dashboard_queries.traffic(WEEK, now=NOW).leads.total() == 1
