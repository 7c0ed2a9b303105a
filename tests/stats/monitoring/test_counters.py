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
    return counters.current_counts(counters.stored_totals())


def update(times):
    """Run the task several times, each time when the events that it saw before are complete."""
    for _ in range(times):
        counters.update_totals(now=counters.stored_totals().checked_at + LATER)


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
    status_event(make.lead(), LeadStatus.PERMANENTLY_FAILED, reason={"code": "rejected_by_customer"})
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


def test_stored_totals_and_later_events_add_up_and_never_fall():
    a_bit_of_everything()
    assert +read() == EVERYTHING
    update(2)
    assert CounterTotals.objects.get().counts["received"] == 1

    with allow_audit_changes():  # as retention does
        InboundLead.objects.all().delete()
    assert not LeadEvent.objects.exists()
    assert +read() == EVERYTHING

    a_bit_of_everything()
    assert +read() == {series: 2 * number for series, number in EVERYTHING.items()}


def test_an_event_that_was_committed_late_under_a_low_number_is_counted():
    now = timezone.now()
    counters.update_totals(now=now)
    late, early = make.event(), make.event()
    rows = list(LeadEvent.objects.filter(pk=late.pk))
    with allow_audit_changes():
        LeadEvent.objects.filter(pk=late.pk).delete()  # not committed yet
    counters.update_totals(now=now + LATER)  # sees the second event as the newest
    assert read()["received"] == 1
    LeadEvent.objects.bulk_create(rows)

    counters.update_totals(now=now + LATER * 2)

    assert CounterTotals.objects.get().last_event_id == early.pk
    assert read()["received"] == 2


def test_an_event_is_not_added_before_it_is_complete():
    now = timezone.now()
    counters.update_totals(now=now)
    make.event()

    for seconds in (1, 30, 49):
        counters.update_totals(now=now + timedelta(seconds=seconds))

    assert CounterTotals.objects.get().counts == {}
    assert read()["received"] == 1


def test_a_long_backlog_is_added_in_batches(monkeypatch):
    monkeypatch.setattr(counters, "BATCH", 3)
    first, *_ = [make.event().pk for _ in range(8)]
    CounterTotals.objects.create(last_event_id=first - 1, newest_event_id=first + 7)

    update(1)

    assert CounterTotals.objects.get().last_event_id == first + 2
    assert read()["received"] == 8
    update(2)
    assert CounterTotals.objects.get().counts["received"] == 8


def test_a_slower_process_does_not_overwrite_newer_totals(monkeypatch):
    make.event()
    update(1)
    make.event()
    count = counters.count_events

    def count_while_another_is_faster(events):
        monkeypatch.setattr(counters, "count_events", count)
        counted = count(events)
        update(2)
        return counted

    monkeypatch.setattr(counters, "count_events", count_while_another_is_faster)
    update(1)

    assert CounterTotals.objects.get().counts["received"] == 2
    assert read()["received"] == 2


def test_redelivered_leads_and_unknown_reasons_have_no_series_of_their_own():
    lead = make.lead(status=LeadStatus.DELIVERED, uncounted_attempts=1)
    status_event(lead, LeadStatus.DELIVERED, after=timedelta(days=3))
    status_event(make.lead(), LeadStatus.REJECTED, reason="ann@example.com")

    assert +read() == {"entered|DELIVERED": 1, "entered|REJECTED": 1, "stopped|other": 1}
