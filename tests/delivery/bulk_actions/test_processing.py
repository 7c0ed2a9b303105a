import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from delivery import tasks
from delivery.bulk_actions import lead_actions
from delivery.bulk_actions.creation import cancel
from delivery.bulk_actions.processing import process_one, process_pending
from delivery.models import BulkAction, BulkActionKind
from leadgateway import queue
from leads.audit.append_only import allow_audit_changes
from leads.models import EventKind, InboundLead, LeadEvent
from tests.background import run_at_once
from tests.delivery.bulk_actions.builders import NOW, bulk_action, failed_leads, later, outcomes, redelivered, stored

pytestmark = pytest.mark.django_db

RESOLVE = BulkActionKind.RESOLVE


def test_leads_are_processed_oldest_first_and_enqueued(queued_leads: Callable[[], list[int]]) -> None:
    leads = failed_leads(3)
    action = bulk_action()
    failed_leads(1)  # a lead that fails later is not included

    assert process_pending(now=timezone.now(), max_leads=100) == 3

    done = stored(action)
    assert (done.done, done.skipped, done.waiting, done.claimed_until) == (3, 0, 0, None)
    assert done.finished_at is not None
    assert redelivered() == queued_leads() == [lead.pk for lead in leads]
    event = LeadEvent.objects.filter(kind=EventKind.REDELIVERED).first()
    assert event is not None
    assert (event.actor, event.detail) == ("ann", {"reason": "customer was down", "bulk_action": action.pk})
    assert InboundLead.objects.filter(status="READY", enqueued_at__isnull=False).count() == 3


def test_resolved_leads_are_not_enqueued(queued_leads: Callable[[], list[int]]) -> None:
    failed_leads(2)
    action = bulk_action(RESOLVE)

    process_pending(now=timezone.now(), max_leads=100)

    assert stored(action).done == 2
    assert queued_leads() == []
    assert not InboundLead.objects.filter(resolved_at=None).exists()


def test_leads_changed_or_deleted_in_the_meantime_are_skipped_with_a_reason() -> None:
    first, changed, delivered, deleted, last = failed_leads(5)
    action = bulk_action()
    lead_actions.redeliver(changed.pk, actor="bob", reason="by hand", now=NOW)
    InboundLead.objects.filter(pk=delivered.pk).update(status="DELIVERED", next_attempt_at=None)
    with allow_audit_changes(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM inbound_lead WHERE id = %s", [deleted.pk])

    assert process_pending(now=timezone.now(), max_leads=100) == 4

    assert list(action.items.order_by("pk").values_list("lead", "outcome", "skip_reason")) == [
        (first.pk, "done", None),
        (changed.pk, "skipped", lead_actions.SkipReason.IN_PROGRESS),
        (delivered.pk, "skipped", lead_actions.SkipReason.DELIVERED),
        (last.pk, "done", None),
    ]
    assert (stored(action).done, stored(action).skipped, stored(action).is_open) == (2, 2, False)
    assert redelivered() == [changed.pk, first.pk, last.pk]
    assert InboundLead.objects.get(pk=delivered.pk).status == "DELIVERED"


def test_the_maximum_number_of_leads_applies_to_all_bulk_actions_together() -> None:
    failed_leads(3)
    first, second = bulk_action(), bulk_action(RESOLVE)

    processed = [process_pending(now=timezone.now(), max_leads=2) for _ in range(4)]

    assert processed == [2, 2, 2, 0]
    assert (stored(first).done, stored(second).skipped) == (3, 3)  # a redelivered lead needs no attention
    assert not BulkAction.objects.filter(finished_at=None).exists()


@pytest.mark.parametrize(("rate", "interval", "done"), [(2, 1.5, 3), (1, 0.1, 1)])
def test_the_task_keeps_to_the_rate(settings: Any, rate: int, interval: float, done: int) -> None:
    settings.BULK_ACTION_RATE, settings.WORKER_POLL_INTERVAL = rate, timedelta(seconds=interval)
    failed_leads(4)
    action = bulk_action()

    tasks.process_bulk_actions()

    assert stored(action).done == done


def test_processing_continues_when_the_queue_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_lead_ids: list[int], **_: Any) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", fail)
    failed_leads(2)
    bulk_action()

    assert process_pending(now=timezone.now(), max_leads=100) == 2

    # Without enqueued_at, so that the sweep enqueues them.
    assert set(InboundLead.objects.values_list("status", "enqueued_at")) == {("READY", None)}


@pytest.mark.django_db(transaction=True)
def test_processing_stops_as_soon_as_the_bulk_action_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _, _ = failed_leads(4)
    action = bulk_action()

    real = lead_actions.redeliver

    def redeliver_and_cancel(lead_id: int, **arguments: Any) -> None:
        real(lead_id, **arguments)
        if lead_id == second.pk:
            transaction.on_commit(lambda: cancel(action.pk, actor="bob", now=NOW))

    monkeypatch.setattr(lead_actions, "redeliver", redeliver_and_cancel)

    assert process_pending(now=timezone.now(), max_leads=100) == 2

    assert redelivered() == [first.pk, second.pk]
    assert LeadEvent.objects.latest("pk").detail["unprocessed"] == stored(action).waiting == 2
    assert stored(action).finished_at is None


# --- workers that stop, and workers that compete ---------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: no code of the worker runs after it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, module: Any, function: str, *, call: int, after: bool = False) -> None:
    """Stop the worker before, or after, a call of a function."""
    calls = 0
    original = getattr(module, function)

    def wrapped(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        original(*args, **kwargs)
        if calls == call:
            raise Killed

    monkeypatch.setattr(module, function, wrapped)


@pytest.mark.parametrize(
    ("module", "function", "call", "after", "done"),
    [
        (lead_actions, "redeliver", 2, True, 1),  # before the commit
        (queue, "enqueue", 1, False, 3),  # the sweep enqueues them
        (queue, "enqueue", 1, True, 3),  # before the bulk action is marked as finished
    ],
)
def test_another_worker_continues_when_the_claim_of_a_killed_worker_has_expired(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: str, call: int, after: bool, done: int
) -> None:
    leads = failed_leads(3)
    action = bulk_action()
    kill_at(monkeypatch, module, function, call=call, after=after)

    with pytest.raises(Killed):
        process_pending(now=timezone.now(), max_leads=100)

    assert redelivered() == [lead.pk for lead in leads[:done]]
    assert stored(action).done == outcomes(action).count("done") == done
    assert process_pending(now=later(seconds=50), max_leads=100) == 0  # the claim has not expired
    assert process_pending(now=later(seconds=70), max_leads=100) == 3 - done
    assert redelivered() == [lead.pk for lead in leads]
    assert (stored(action).done, stored(action).is_open) == (3, False)


def test_a_claimed_bulk_action_is_left_to_its_worker() -> None:
    failed_leads(2)
    claimed, free = bulk_action(), bulk_action(RESOLVE)
    BulkAction.objects.filter(pk=claimed.pk).update(claimed_until=later(seconds=30))

    assert process_pending(now=timezone.now(), max_leads=100) == 2
    assert process_one(claimed.pk, now=timezone.now(), max_leads=100) == 0

    assert (stored(claimed).done, stored(free).done) == (0, 2)


def test_every_lead_renews_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    failed_leads(2)
    action = bulk_action()
    claims: list[Any] = []
    real = lead_actions.redeliver

    def redeliver(lead_id: int, **arguments: Any) -> None:
        claims.append(stored(action).claimed_until)
        real(lead_id, **arguments)

    monkeypatch.setattr(lead_actions, "redeliver", redeliver)

    process_pending(now=timezone.now() - timedelta(seconds=50), max_leads=100)

    assert [until > later(seconds=30) for until in claims] == [False, True]


@pytest.mark.django_db(transaction=True)
def test_workers_that_take_over_each_others_claims_process_no_lead_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    leads = failed_leads(30)
    action = bulk_action()
    monkeypatch.setattr(queue, "enqueue", lambda *_args, **_more: None)
    real = lead_actions.redeliver

    def redeliver(lead_id: int, **arguments: Any) -> None:
        real(lead_id, **arguments)
        transaction.on_commit(lambda: time.sleep(0.002))  # lets the other worker in

    monkeypatch.setattr(lead_actions, "redeliver", redeliver)

    def process() -> None:
        while stored(action).is_open:
            process_pending(now=later(minutes=2), max_leads=100)  # at that time the other claim has expired

    run_at_once(process, process)

    assert sorted(redelivered(), key=str) == sorted((lead.pk for lead in leads), key=str)
    assert (stored(action).done, stored(action).skipped) == (30, 0)
