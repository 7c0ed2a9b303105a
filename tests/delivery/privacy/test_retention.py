"""Leads go when their time has come: `manage.py apply_retention`, and beat's task."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from delivery import tasks
from delivery.models import BulkAction, BulkActionItem, DeliveryAttempt
from delivery.privacy import retention
from leads.models import AuditChainHead, DeletedLeads, EventKind, InboundLead, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db

PERIODS = {
    "delivered": timedelta(days=180),
    "rejected": timedelta(days=30),
    "failed": timedelta(days=60),
    "permanently_failed": timedelta(days=90),
}


@pytest.fixture(autouse=True)
def _periods(settings):
    settings.RETENTION_DAYS = PERIODS


def ended(days, status, **columns):
    """Return a lead that ended so many days ago."""
    at = timezone.now() - timedelta(days=days)
    lead = make.lead(**{"status": status, "received_at": at, "updated_at": at, "next_attempt_at": None} | columns)
    make.event(lead)
    LeadEvent.objects.create(lead=lead, kind="status", to_status=status, actor="worker")
    return lead


def apply(*arguments):
    out = StringIO()
    call_command("apply_retention", *arguments, stdout=out)
    return out.getvalue()


def left():
    return set(InboundLead.objects.values_list("pk", flat=True))


def test_each_status_has_its_own_time():
    gone = [ended(181, "DELIVERED"), ended(31, "REJECTED"), ended(61, "FAILED"), ended(91, "PERMANENTLY_FAILED")]
    kept = [ended(179, "DELIVERED"), ended(29, "REJECTED"), ended(59, "FAILED"), ended(89, "PERMANENTLY_FAILED")]

    apply("--no-input")

    assert left() == {lead.pk for lead in kept}
    assert not LeadEvent.objects.filter(lead__in=[lead.pk for lead in gone]).exists()
    call_command("verify_audit_log", stdout=StringIO())


def test_a_status_that_is_not_named_is_kept_for_ever(settings):
    settings.RETENTION_DAYS = {"rejected": timedelta(days=1)}
    kept = ended(9999, "DELIVERED")
    ended(2, "REJECTED")

    apply("--no-input")

    assert left() == {kept.pk}


@pytest.mark.parametrize(
    ("status", "columns"),
    [
        ("RECEIVED", {"next_attempt_at": make.NOON}),
        ("RECEIVED", {}),
        ("READY", {}),
        ("FAILED", {"next_attempt_at": make.NOON}),
        ("DELIVERED", {"next_attempt_at": make.NOON}),
        ("FAILED", {"claimed_until": timezone.now() + timedelta(hours=1)}),
        ("DELIVERED", {"updated_at": timezone.now()}),
    ],
)
def test_a_lead_that_is_under_way_or_has_just_ended_is_kept(status, columns):
    kept = ended(9999, status, **columns)

    apply("--no-input")

    assert left() == {kept.pk}


@pytest.mark.parametrize(
    ("order", "item", "is_kept"),
    [
        ({}, {}, True),
        ({"finished_at": make.NOON}, {}, False),
        ({"cancelled_at": make.NOON}, {}, False),
        ({}, {"outcome": "done"}, False),
    ],
)
def test_a_lead_that_an_order_is_about_to_touch_is_kept(order, item, is_kept):
    lead = ended(9999, "PERMANENTLY_FAILED")
    placed = BulkAction.objects.create(kind="redeliver", actor="x", reason="x", created_at=make.NOON, total=1, **order)
    BulkActionItem.objects.create(bulk_action=placed, lead=lead, **item)

    apply("--no-input")

    assert bool(left()) is is_kept
    assert BulkActionItem.objects.exists() is is_kept


def test_what_goes_is_counted_and_recorded():
    day = datetime(2025, 3, 1, 23, 30, tzinfo=UTC)
    leads = [ended(0, "DELIVERED", received_at=day, updated_at=day) for _ in range(3)]
    other = ended(0, "REJECTED", received_at=day, updated_at=day)
    for lead in leads[:2]:
        make.attempt(lead)
        make.attempt(lead)

    apply("--no-input")
    again = ended(0, "DELIVERED", received_at=day, updated_at=day)
    make.attempt(again)
    apply("--no-input")

    counted = DeletedLeads.objects.order_by("status").values_list("day", "status", "leads", "attempts")
    assert list(counted) == [(day.date(), "DELIVERED", 4, 5), (day.date(), "REJECTED", 1, 0)]
    first, second = LeadEvent.objects.filter(lead=None, kind=EventKind.RETENTION_APPLIED).order_by("pk")
    numbers = f"{leads[0].pk}-{other.pk}"
    assert first.detail == {"leads": numbers, "counts": {"DELIVERED": 3, "REJECTED": 1}}
    assert second.detail == {"leads": str(again.pk), "counts": {"DELIVERED": 1}}
    assert not DeliveryAttempt.objects.exists()
    assert list(AuditChainHead.objects.values_list("chain", flat=True)) == [0]
    out = StringIO()
    call_command("lead_counts", stdout=out)
    assert "and 5 deleted when their time had come" in out.getvalue()


def test_what_was_deleted_lawfully_is_not_missed_by_an_anchor(tmp_path):
    ended(9999, "DELIVERED")
    out = StringIO()
    call_command("verify_audit_log", "--anchor", stdout=out, stderr=StringIO())
    anchor = tmp_path / "anchor"
    anchor.write_text(out.getvalue())

    apply("--no-input")

    call_command("verify_audit_log", "--against", str(anchor), stdout=StringIO())


def test_a_dry_run_counts_and_changes_nothing():
    kept = [ended(181, "DELIVERED"), ended(31, "REJECTED"), ended(31, "REJECTED")]

    said = apply("--dry-run")

    assert said.splitlines() == [
        "delivered           older than   180 days        1",
        "rejected            older than    30 days        2",
        "failed              older than    60 days        0",
        "permanently_failed  older than    90 days        0",
        "Nothing was done.",
    ]
    assert left() == {lead.pk for lead in kept}


def test_without_a_terminal_and_without_no_input_nothing_is_done():
    kept = ended(9999, "DELIVERED")

    with pytest.raises(CommandError, match="nothing was done"):
        apply()

    assert left() == {kept.pk}


def test_with_nothing_set_the_command_says_so_and_the_task_does_nothing(settings):
    settings.RETENTION_DAYS = {}
    kept = ended(9999, "DELIVERED")

    with pytest.raises(CommandError, match="RETENTION_DAYS is not set"):
        apply("--no-input")
    tasks.apply_retention()

    assert left() == {kept.pk}


def test_it_goes_in_batches_and_the_task_leaves_some_for_the_next_hour(monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(tasks, "_BATCHES_AN_HOUR", 2)
    leads = [ended(9999 - number, "DELIVERED").pk for number in range(7)]

    tasks.apply_retention()
    assert left() == set(leads[4:])
    assert LeadEvent.objects.filter(kind=EventKind.RETENTION_APPLIED, actor="retention").count() == 2

    assert apply("--no-input").splitlines()[-1] == "3 leads deleted."
    assert left() == set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
def test_a_lead_that_somebody_holds_is_passed_over():
    """An operator may be redelivering it at this moment."""
    import threading

    held, free = ended(9999, "DELIVERED"), ended(9999, "DELIVERED")
    deleted = []

    def delete():
        deleted.append(retention.delete_batch(PERIODS, now=timezone.now(), actor="x"))
        connection.close()

    with transaction.atomic():
        InboundLead.objects.select_for_update().get(pk=held.pk)
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(10)

    assert deleted == [1]
    assert left() == {held.pk}
    assert free.pk not in left()


def test_beat_knows_the_task(settings):
    assert settings.CELERY_BEAT_SCHEDULE["apply_retention"]["task"] == tasks.apply_retention.name
