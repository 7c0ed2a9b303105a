"""The hourly statistics: counted once and completely, even after an outage, and kept."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from leads.audit.append_only import allow_audit_changes
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.models import HourlyStatistics, MonitoringState
from stats.monitoring import hourly
from tests import make
from tests.make import NOON

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def lead(source: str | None = None, **columns: Any) -> InboundLead:
    found = make.lead(source=source, received_at=NOON, **columns)
    make.event(found)
    return found


def entered(one: InboundLead, status: LeadStatus, *, after: timedelta = MINUTE, **detail: Any) -> None:
    columns = {"kind": EventKind.STATUS, "actor": "worker", "at": NOON + after}
    LeadEvent.objects.create(lead=one, to_status=status, detail=detail, **columns)


def answered(one: InboundLead, status: int | None, *, after: timedelta = MINUTE) -> None:
    make.event(one, EventKind.ATTEMPT_FINISHED, now=NOON + after, detail={"response_status": status})


def rows(*columns: str) -> list[Any]:
    return list(HourlyStatistics.objects.order_by("hour", "source").values_list(*columns))


def count(now: datetime = NOON + HOUR + 5 * MINUTE) -> int:
    return hourly.aggregate_hours(now=now)


def test_an_hour_counts_all_its_events() -> None:
    delivered, slow, rejected, given_up = lead(), lead(), lead(), lead()
    make.event(delivered, EventKind.DUPLICATE)
    answered(delivered, 200)
    entered(delivered, LeadStatus.DELIVERED, after=timedelta(seconds=2))
    answered(slow, None)
    entered(slow, LeadStatus.FAILED)
    answered(slow, 503)
    answered(slow, 200)
    entered(slow, LeadStatus.DELIVERED, after=timedelta(seconds=90))
    entered(rejected, LeadStatus.REJECTED, reason="ZIP_NOT_66XXX")
    answered(given_up, 422)
    entered(given_up, LeadStatus.PERMANENTLY_FAILED, reason={"code": "rejected_by_customer"})
    entered(given_up, LeadStatus.READY, after=HOUR)  # the next hour

    assert count() == 1

    [row] = HourlyStatistics.objects.all()
    assert hourly.as_json(row) == {
        "hour": "2026-01-21T12:00:00Z",
        "source": "",
        "accepted": 4,
        "duplicates": 1,
        "rejected": {"ZIP_NOT_66XXX": 1},
        "delivered": 2,
        "failed": 1,
        "permanently_failed": 1,
        "attempts": {"delivered": 2, "failed": 2, "refused": 1},
        "p50_s": 2.0,
        "p95_s": 2.0,
    }


def test_each_source_has_its_row_without_the_times_of_redelivered_leads(django_assert_max_num_queries: Any) -> None:
    lead("b"), lead(None)
    for seconds in range(1, 101):
        entered(lead("a"), LeadStatus.DELIVERED, after=timedelta(seconds=seconds))
    entered(lead("a", uncounted_attempts=1), LeadStatus.DELIVERED, after=timedelta(minutes=50))

    with django_assert_max_num_queries(25):
        count()

    assert rows("source", "accepted") == [("", 1), ("a", 101), ("b", 1)]
    assert rows("delivered", "p50_s", "p95_s")[1] == (101, 50.0, 95.0)


@pytest.mark.parametrize(("minutes", "expected"), [(59, 0), (64, 0), (65, 1), (130, 2)])
def test_an_hour_is_counted_five_minutes_after_its_end(minutes: int, expected: int) -> None:
    lead()

    assert count(NOON + minutes * MINUTE) == expected


def test_a_counted_hour_does_not_change() -> None:
    assert count() == 0
    lead("a")
    count()
    before = rows("pk", "hour", "source", "accepted")

    assert count() == 0
    MonitoringState.objects.update(hours_counted_until=NOON)  # as if another process were slower
    assert count() == 1
    with allow_audit_changes():  # as retention does
        LeadEvent.objects.all().delete()
        InboundLead.objects.all().delete()
    count(NOON + 5 * HOUR)

    assert rows("pk", "hour", "source", "accepted") == before


def test_missed_hours_are_counted_in_batches() -> None:
    lead()
    count()
    late = lead()
    make.event(late, EventKind.DUPLICATE, now=NOON + 70 * HOUR)
    at = NOON + 72 * HOUR

    assert [count(at) for _ in range(3)] == [48, 22, 0]

    assert rows("hour", "accepted", "duplicates") == [(NOON, 2 - 1, 0), (NOON + 70 * HOUR, 0, 1)]
    assert hourly.counted_until() == NOON + 71 * HOUR


def test_at_most_two_weeks_are_counted() -> None:
    make.event(now=NOON - timedelta(days=15))
    make.event(now=NOON - timedelta(days=3))
    while count(NOON + 6 * MINUTE):
        pass
    assert rows("hour", "accepted") == [(NOON - timedelta(days=3), 1)]

    months_later = NOON + timedelta(days=90)
    count(months_later)
    assert hourly.counted_until() == months_later - timedelta(days=14) + 48 * HOUR
