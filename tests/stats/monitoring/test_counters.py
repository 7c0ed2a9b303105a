"""The counters behind the metrics: complete, and never falling."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from delivery.privacy.retention import delete_batch
from leads.audit.append_only import allow_audit_changes
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.status import change_status
from stats.models import CounterTotals
from stats.monitoring import counters
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_few_event_ids")]

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
    monkeypatch.setattr(counters, "BATCHES", 2)
    first, *_ = [make.event().pk for _ in range(8)]
    CounterTotals.objects.create(last_event_id=first - 1, newest_event_id=first + 7)

    update(1)

    assert CounterTotals.objects.get().last_event_id == first + 5
    assert read()["received"] == 8
    update(1)
    assert CounterTotals.objects.get().counts["received"] == 8


def test_a_scrape_counts_few_events_and_says_how_many_are_left(monkeypatch):
    monkeypatch.setattr(counters, "READ_LIMIT", 3)
    first, *_ = [make.event().pk for _ in range(8)]
    CounterTotals.objects.create(last_event_id=first - 1, newest_event_id=first + 7)
    totals = counters.stored_totals()

    assert (read()["received"], counters.uncounted(totals)) == (3, 5)
    update(1)
    assert (read()["received"], counters.uncounted(counters.stored_totals())) == (8, 0)


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


# --- leads by status -------------------------------------------------------------------------------------------------


def leads_one_by_one():
    return Counter(InboundLead.objects.values_list("status", flat=True))


def enter(lead, *statuses):
    for status in statuses:
        change_status(lead, status, actor="worker", now=timezone.now(), by_operator=True)


@pytest.fixture
def queries():
    """Return a function that counts leads by status, and checks the result and how it was counted."""

    def counted(*, rows):
        with CaptureQueriesContext(connection) as captured:
            found = counters.leads_by_status()
        assert +found == leads_one_by_one()
        read_all_rows = any("WHERE" not in query["sql"] for query in captured if 'FROM "inbound_lead' in query["sql"])
        assert read_all_rows == rows

    return counted


def test_closed_leads_are_counted_from_their_events(queries):
    leads = [make.lead() for _ in range(6)]
    enter(leads[0], "READY", "DELIVERED")
    queries(rows=True)
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())
    queries(rows=False)

    enter(leads[1], "READY", "FAILED", "PERMANENTLY_FAILED", "READY")
    enter(leads[2], "REJECTED")
    enter(leads[3], "READY", "FAILED")
    enter(leads[0], "READY")
    queries(rows=False)
    update(2)
    queries(rows=False)
    enter(leads[0], "DELIVERED")
    queries(rows=False)


def test_leads_that_retention_deletes_are_no_longer_counted(queries):
    leads = [make.lead(status="RECEIVED") for _ in range(3)]
    for lead in leads:
        enter(lead, "REJECTED")
    InboundLead.objects.update(next_attempt_at=None)
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())
    update(2)
    later = timezone.now() + timedelta(days=2)

    assert delete_batch({"rejected": timedelta(days=1)}, now=later, actor="anna") == 3
    queries(rows=False)
    make.lead()
    queries(rows=False)
    counters.recount_closed_leads(now=later)
    queries(rows=False)


def test_leads_that_another_program_has_closed_are_counted_after_a_while(queries):
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())
    make.lead(status=LeadStatus.DELIVERED)
    assert not counters.leads_by_status()["DELIVERED"]

    counters.recount_closed_leads(now=timezone.now() + counters.RECOUNT_AFTER / 2)
    assert not counters.leads_by_status()["DELIVERED"]
    counters.recount_closed_leads(now=timezone.now() + counters.RECOUNT_AFTER)
    queries(rows=False)


def test_when_too_many_events_are_left_the_leads_are_counted_one_by_one(queries, monkeypatch):
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())
    monkeypatch.setattr(counters, "LEADS_READ_LIMIT", 2)
    enter(make.lead(), "READY", "FAILED", "PERMANENTLY_FAILED")

    queries(rows=True)
    assert counters.leads_by_status(exact=False) == {}
    enter(make.lead(), "READY")
    assert +counters.leads_by_status(exact=False) == {"READY": 1}


def test_totals_that_move_meanwhile_are_not_used(queries, monkeypatch):
    lead = make.lead()
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())
    enter(lead, "REJECTED")
    old = counters.stored_totals()
    update(2)
    monkeypatch.setattr(counters, "stored_totals", lambda: old)

    queries(rows=True)


# --- series ----------------------------------------------------------------------------------------------------------


def test_redelivered_leads_and_unknown_reasons_have_no_series_of_their_own():
    lead = make.lead(status=LeadStatus.DELIVERED, uncounted_attempts=1)
    status_event(lead, LeadStatus.DELIVERED, after=timedelta(days=3))
    status_event(make.lead(), LeadStatus.REJECTED, reason="ann@example.com")

    assert +read() == {"entered|DELIVERED": 1, "entered|REJECTED": 1, "stopped|other": 1}
