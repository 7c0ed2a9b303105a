"""Expired leads are deleted by `manage.py apply_retention` and by the hourly task."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError
from django.db import transaction
from django.utils import timezone

from delivery import tasks
from delivery.models import BulkAction, BulkActionItem, DeliveryAttempt
from delivery.privacy import retention
from leads.models import AuditChainHead, DeletedLeads, EventKind, InboundLead, LeadEvent
from tests import make
from tests.background import run_at_once
from tests.commands import output_of

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


def closed(days, status, **columns):
    """Return a lead that was closed this many days ago."""
    at = timezone.now() - timedelta(days=days)
    lead = make.lead(**{"status": status, "received_at": at, "updated_at": at, "next_attempt_at": None} | columns)
    make.event(lead)
    LeadEvent.objects.create(lead=lead, kind="status", to_status=status, actor="worker")
    return lead


def apply_retention(*arguments):
    return output_of("apply_retention", *arguments)


def stored_ids():
    return set(InboundLead.objects.values_list("pk", flat=True))


def test_each_status_has_its_own_period():
    gone = [closed(181, "DELIVERED"), closed(31, "REJECTED"), closed(61, "FAILED"), closed(91, "PERMANENTLY_FAILED")]
    kept = [closed(179, "DELIVERED"), closed(29, "REJECTED"), closed(59, "FAILED"), closed(89, "PERMANENTLY_FAILED")]

    apply_retention("--no-input")

    assert stored_ids() == {lead.pk for lead in kept}
    assert not LeadEvent.objects.filter(lead__in=[lead.pk for lead in gone]).exists()
    output_of("verify_audit_log")


@pytest.mark.parametrize(
    ("status", "columns"),
    [
        ("RECEIVED", {}),
        ("READY", {}),
        ("FAILED", {"next_attempt_at": make.NOON}),
        ("DELIVERED", {"next_attempt_at": make.NOON}),
        ("FAILED", {"claimed_until": timezone.now() + timedelta(hours=1)}),
        ("DELIVERED", {"updated_at": timezone.now()}),
    ],
)
def test_leads_in_progress_and_recently_changed_leads_are_kept(status, columns):
    kept = closed(9999, status, **columns)

    apply_retention("--no-input")

    assert stored_ids() == {kept.pk}


@pytest.mark.parametrize(
    ("bulk_action", "item", "is_kept"),
    [
        ({}, {}, True),
        ({"finished_at": make.NOON}, {}, False),
        ({"cancelled_at": make.NOON}, {}, False),
        ({}, {"outcome": "done"}, False),
    ],
)
def test_a_lead_of_an_open_bulk_action_is_kept(bulk_action, item, is_kept):
    lead = closed(9999, "PERMANENTLY_FAILED")
    action = BulkAction.objects.create(
        kind="redeliver", actor="x", reason="x", created_at=make.NOON, total=1, **bulk_action
    )
    BulkActionItem.objects.create(bulk_action=action, lead=lead, **item)

    apply_retention("--no-input")

    assert bool(stored_ids()) is is_kept
    assert BulkActionItem.objects.exists() is is_kept


def test_deleted_leads_are_counted_and_recorded():
    day = datetime(2025, 3, 1, 23, 30, tzinfo=UTC)
    leads = [closed(0, "DELIVERED", received_at=day, updated_at=day) for _ in range(3)]
    other = closed(0, "REJECTED", received_at=day, updated_at=day)
    for lead in leads[:2]:
        make.attempt(lead)
        make.attempt(lead)

    apply_retention("--no-input")
    again = closed(0, "DELIVERED", received_at=day, updated_at=day)
    make.attempt(again)
    apply_retention("--no-input")

    counted = DeletedLeads.objects.order_by("status").values_list("day", "status", "leads", "attempts")
    assert list(counted) == [(day.date(), "DELIVERED", 4, 5), (day.date(), "REJECTED", 1, 0)]
    first, second = LeadEvent.objects.filter(lead=None, kind=EventKind.RETENTION_APPLIED).order_by("pk")
    numbers = f"{leads[0].pk}-{other.pk}"
    assert first.detail == {"leads": numbers, "counts": {"DELIVERED": 3, "REJECTED": 1}}
    assert second.detail == {"leads": str(again.pk), "counts": {"DELIVERED": 1}}
    assert not DeliveryAttempt.objects.exists()
    assert list(AuditChainHead.objects.values_list("chain", flat=True)) == [0]
    assert "Deleted by retention (RETENTION_DAYS): 5" in output_of("lead_counts")


def test_an_older_anchor_accepts_deletion_by_retention(tmp_path):
    closed(9999, "DELIVERED")
    anchor = tmp_path / "anchor"
    anchor.write_text(output_of("verify_audit_log", "--anchor"))

    apply_retention("--no-input")

    output_of("verify_audit_log", "--against", anchor)


def test_a_dry_run_and_a_missing_confirmation_delete_nothing():
    kept = [closed(181, "DELIVERED"), closed(31, "REJECTED"), closed(31, "REJECTED")]

    output = apply_retention("--dry-run")
    with pytest.raises(CommandError, match=r"Nothing was changed.*--no-input"):
        apply_retention()

    assert output.splitlines() == [
        "delivered           older than   180 days        1",
        "rejected            older than    30 days        2",
        "failed              older than    60 days        0",
        "permanently_failed  older than    90 days        0",
        "Nothing was deleted.",
    ]
    assert stored_ids() == {lead.pk for lead in kept}


def test_statuses_without_a_period_are_kept(settings):
    kept = closed(9999, "DELIVERED")
    closed(2, "REJECTED")
    settings.RETENTION_DAYS = {"rejected": timedelta(days=1)}
    apply_retention("--no-input")
    assert stored_ids() == {kept.pk}

    settings.RETENTION_DAYS = {}
    with pytest.raises(CommandError, match="RETENTION_DAYS is not set"):
        apply_retention("--no-input")
    tasks.apply_retention()
    assert stored_ids() == {kept.pk}


def test_the_task_of_beat_deletes_batches_for_a_limited_time(monkeypatch, settings):
    monkeypatch.setattr(retention, "BATCH", 1)
    leads = [closed(9999 - number, "DELIVERED").pk for number in range(5)]

    assert settings.CELERY_BEAT_SCHEDULE["apply_retention"]["task"] == tasks.apply_retention.name
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "LONGEST_RETENTION", timedelta(0))
        tasks.apply_retention()
    assert stored_ids() == set(leads[1:])
    assert LeadEvent.objects.filter(kind=EventKind.RETENTION_APPLIED, actor="retention").count() == 1

    tasks.apply_retention()
    assert stored_ids() == set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
def test_a_locked_lead_is_skipped():
    """An operator may be redelivering it."""
    locked, free = closed(9999, "DELIVERED"), closed(9999, "DELIVERED")
    deleted = []

    with transaction.atomic():
        InboundLead.objects.select_for_update().get(pk=locked.pk)
        run_at_once(lambda: deleted.append(retention.delete_batch(PERIODS, now=timezone.now(), actor="x")))

    assert deleted == [1]
    assert stored_ids() == {locked.pk}
    assert free.pk not in stored_ids()
