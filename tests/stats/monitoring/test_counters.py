"""The counters behind the metrics: complete, and never falling."""

from datetime import timedelta

import pytest
from django.utils import timezone

from leads.audit.append_only import allow_audit_changes
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.models import CounterTotals
from stats.monitoring import counters
from tests import make

pytestmark = pytest.mark.django_db

LATER = counters.COMPLETE_AFTER


def read():
    return counters.read(counters.kept())


def fold(times):
    """Let the minute's task run so often, each time after all that it saw the last time has settled."""
    for _ in range(times):
        counters.fold(now=counters.kept().looked_at + LATER)


def status_event(lead, to, *, after=timedelta(0), **detail):
    LeadEvent.objects.create(
        lead=lead, kind=EventKind.STATUS, to_status=to, actor="worker", at=lead.received_at + after, detail=detail
    )


def a_bit_of_everything():
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.event(lead)
    make.event(lead, EventKind.DUPLICATE)
    make.event(lead, EventKind.REVEALED)
    status_event(make.lead(), LeadStatus.REJECTED, reason="ZIP_NOT_66XXX")
    status_event(make.lead(), LeadStatus.FAILED, reason="MISSING_REQUIRED_FIELD", missing=["phone"])
    status_event(make.lead(), LeadStatus.PERMANENTLY_FAILED, reason="the customer refused it: HTTP 422")
    for code in (503, 422, None, 200):
        make.event(lead, EventKind.ATTEMPT_FINISHED, detail={"attempt_no": 1, "response_status": code})
    status_event(lead, LeadStatus.DELIVERED, after=timedelta(seconds=3))


EVERYTHING = {
    "received": 1,
    "duplicate": 1,
    "entered|REJECTED": 1,
    "entered|FAILED": 1,
    "entered|PERMANENTLY_FAILED": 1,
    "entered|DELIVERED": 1,
    "stopped|ZIP_NOT_66XXX": 1,
    "stopped|MISSING_REQUIRED_FIELD": 1,
    "attempts|503": 1,
    "attempts|422": 1,
    "attempts|200": 1,
    "attempts|none": 1,
    "delivered": 1,
    "delivered_ms": 3000,
} | {f"delivered|{bound:g}": 1 for bound in counters.BOUNDS if bound >= 5}


def test_every_event_counts_in_its_series():
    a_bit_of_everything()

    assert +read() == EVERYTHING


def test_what_is_kept_and_what_came_since_add_up():
    a_bit_of_everything()
    fold(2)
    assert CounterTotals.objects.get().counted["received"] == 1
    assert +read() == EVERYTHING

    a_bit_of_everything()

    assert +read() == {series: 2 * number for series, number in EVERYTHING.items()}


def test_a_series_never_falls_when_retention_deletes_its_leads():
    a_bit_of_everything()
    fold(2)

    with allow_audit_changes():
        InboundLead.objects.all().delete()

    assert not LeadEvent.objects.exists()
    assert +read() == EVERYTHING


def test_an_event_that_was_committed_late_under_a_low_number_is_counted():
    now = timezone.now()
    counters.fold(now=now)
    late, early = make.event(), make.event()
    rows = list(LeadEvent.objects.filter(pk=late.pk))
    with allow_audit_changes():
        LeadEvent.objects.filter(pk=late.pk).delete()  # not committed yet
    counters.fold(now=now + LATER)  # sees the second event as the newest
    assert read()["received"] == 1
    LeadEvent.objects.bulk_create(rows)

    counters.fold(now=now + LATER * 2)

    assert CounterTotals.objects.get().until == early.pk
    assert read()["received"] == 2


def test_an_event_is_not_counted_in_before_it_has_settled():
    now = timezone.now()
    counters.fold(now=now)
    make.event()

    for seconds in (1, 30, 49):
        counters.fold(now=now + timedelta(seconds=seconds))

    assert CounterTotals.objects.get().counted == {}
    assert read()["received"] == 1


def test_a_long_backlog_is_counted_in_by_and_by(monkeypatch):
    monkeypatch.setattr(counters, "BATCH", 3)
    first, *_ = [make.event().pk for _ in range(8)]
    CounterTotals.objects.update(until=first - 1, newest=first + 7)

    fold(1)

    assert CounterTotals.objects.get().until == first + 2
    assert read()["received"] == 8
    fold(2)
    assert CounterTotals.objects.get().counted["received"] == 8


def test_who_was_slower_does_not_turn_the_row_back(monkeypatch):
    make.event()
    fold(1)
    make.event()
    count = counters.count

    def count_while_another_is_faster(events):
        monkeypatch.setattr(counters, "count", count)
        counted = count(events)
        fold(2)
        return counted

    monkeypatch.setattr(counters, "count", count_while_another_is_faster)
    fold(1)

    assert CounterTotals.objects.get().counted["received"] == 2
    assert read()["received"] == 2


def test_a_redelivered_lead_is_no_slow_delivery():
    lead = make.lead(status=LeadStatus.DELIVERED, uncounted_attempts=1)
    status_event(lead, LeadStatus.DELIVERED, after=timedelta(days=3))

    assert read()["entered|DELIVERED"] == 1
    assert read()["delivered"] == 0


def test_an_unknown_reason_is_no_series_of_its_own():
    status_event(make.lead(), LeadStatus.REJECTED, reason="ann@example.com")

    assert +read() == {"entered|REJECTED": 1, "stopped|other": 1}


def test_leads_that_are_done_with_are_counted_by_status():
    for status in (LeadStatus.DELIVERED, LeadStatus.DELIVERED, LeadStatus.REJECTED, LeadStatus.RECEIVED):
        make.lead(status=status)
    counters.fold(now=timezone.now())

    counters.count_closed()

    assert counters.kept().closed == {"DELIVERED": 2, "REJECTED": 1}
