"""Orders for many leads: placed as a snapshot, worked off lead by lead, by carriers that may die or meet."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from delivery import tasks
from delivery.bulk_actions import lead_actions, processing
from delivery.bulk_actions.processing import BulkActionRequest, cancel, place, process_one, process_pending
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leadgateway import queue
from leads.models import EventKind, InboundLead, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db

NOW = timezone.now()

REDELIVER, REPROCESS, RESOLVE = BulkActionKind.REDELIVER, BulkActionKind.REPROCESS, BulkActionKind.RESOLVE

GIVEN_UP = "PERMANENTLY_FAILED"


def failed(number: int) -> list[InboundLead]:
    return [make.lead(status=GIVEN_UP) for _ in range(number)]


def wanted(kind: BulkActionKind = REDELIVER, **more: Any) -> BulkActionRequest:
    return BulkActionRequest(kind=kind, actor="ann", reason="customer was down", selection="all leads", **more)


def placed(kind: BulkActionKind = REDELIVER, *, now: datetime = NOW, **more: Any) -> BulkAction:
    """Place an order for every lead there is."""
    return place(wanted(kind, **more), InboundLead.objects.all(), now=now)


def stored(order: BulkAction) -> BulkAction:
    return BulkAction.objects.get(pk=order.pk)


def outcomes(order: BulkAction) -> list[str | None]:
    return list(order.items.order_by("pk").values_list("outcome", flat=True))


def redelivered() -> list[int | None]:
    """Return the leads of all redeliveries in the trail, in order."""
    events = LeadEvent.objects.filter(kind=EventKind.REDELIVERED).order_by("pk")
    return list(events.values_list("lead_id", flat=True))


def later(**parts: float) -> datetime:
    return timezone.now() + timedelta(**parts)


# --- which leads -----------------------------------------------------------------------------------------------------

LEADS: dict[str, dict[str, Any]] = {
    "received": {"status": "RECEIVED"},
    "ready": {"status": "READY"},
    "rejected": {"status": "REJECTED"},
    "waiting": {"status": "FAILED"},
    "incomplete": {"status": "FAILED", "next_attempt_at": None, "rejection_reason": "MISSING_REQUIRED_FIELD"},
    "given up": {"status": GIVEN_UP},
    "unmapped": {"status": GIVEN_UP, "customer_payload": None},
    "settled": {"status": GIVEN_UP, "resolved_at": NOW},
    "delivered": {"status": "DELIVERED"},
}


@pytest.mark.parametrize(
    ("kind", "include_delivered", "names"),
    [
        (REDELIVER, False, {"waiting", "given up", "settled"}),
        (REDELIVER, True, {"waiting", "given up", "settled", "delivered"}),
        (REPROCESS, False, {"rejected", "waiting", "incomplete", "given up", "unmapped", "settled"}),
        (RESOLVE, False, {"incomplete", "given up", "unmapped"}),
    ],
)
def test_an_order_is_for_the_leads_that_it_fits_and_each_of_them_takes_it(
    kind: BulkActionKind, include_delivered: bool, names: set[str]
) -> None:
    made = {make.lead(**columns).pk: name for name, columns in LEADS.items()}

    order = placed(kind, include_delivered=include_delivered)
    process_pending(now=timezone.now(), most=100)

    assert {made[lead] for lead in order.items.values_list("lead", flat=True)} == names
    assert set(outcomes(order)) == {"done"}


@pytest.mark.parametrize("kind", BulkActionKind)
@pytest.mark.parametrize("name", LEADS)
def test_what_no_order_is_for_would_refuse_it(kind: BulkActionKind, name: str) -> None:
    lead = make.lead(**LEADS[name])
    if processing.eligible(kind, InboundLead.objects.all()).exists():
        return
    order = BulkAction.objects.create(kind=kind, actor="ann", reason="why", selection="one", created_at=NOW, total=1)
    BulkActionItem.objects.create(bulk_action=order, lead=lead)

    process_pending(now=timezone.now(), most=1)

    assert outcomes(order) == ["skipped"]


# --- placing ---------------------------------------------------------------------------------------------------------


def test_placing_writes_down_leads_and_event_and_changes_no_lead(queued_leads: Callable[[], list[int]]) -> None:
    leads = failed(3)
    before = list(InboundLead.objects.order_by("pk").values())

    order = placed()

    assert list(order.items.order_by("pk").values_list("lead", flat=True)) == [lead.pk for lead in leads]
    assert (stored(order).total, stored(order).created_at, stored(order).is_open) == (3, NOW, True)
    event = LeadEvent.objects.get()
    assert (event.kind, event.lead_id, event.correlation_id, event.actor, event.at) == (
        *("bulk_action_created", None, None, "ann"),
        NOW,
    )
    assert event.detail == {
        "bulk_action": order.pk,
        "kind": "redeliver",
        "leads": 3,
        "reason": "customer was down",
        "selection": "all leads",
    }
    assert list(InboundLead.objects.order_by("pk").values()) == before
    assert queued_leads() == []


def test_an_order_is_for_the_leads_of_its_time() -> None:
    failed(2)
    order = placed()
    late = make.lead(status=GIVEN_UP)

    process_pending(now=timezone.now(), most=100)

    assert stored(order).done == 2
    late.refresh_from_db()
    assert late.status == GIVEN_UP


@pytest.mark.parametrize("chosen", [InboundLead.objects.all, InboundLead.objects.none])
def test_an_order_for_no_lead_is_not_placed(chosen: Callable[[], Any]) -> None:
    make.lead(status="DELIVERED")

    with pytest.raises(processing.NoLeads):
        place(wanted(), chosen(), now=NOW)

    assert not BulkAction.objects.exists()
    assert not LeadEvent.objects.exists()


def test_an_order_for_more_leads_than_were_confirmed_is_not_placed() -> None:
    failed(3)

    with pytest.raises(processing.TooManyLeads):
        place(wanted(), InboundLead.objects.all(), now=NOW, most=2)

    assert not BulkAction.objects.exists()
    assert not BulkActionItem.objects.exists()
    assert not LeadEvent.objects.exists()


def test_an_order_has_an_upper_bound_whatever_was_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "MOST_LEADS", 2)
    failed(3)

    with pytest.raises(processing.TooManyLeads):
        place(wanted(), InboundLead.objects.all(), now=NOW, most=1000)

    assert not BulkActionItem.objects.exists()


def test_one_form_places_one_order() -> None:
    failed(2)
    token = uuid.uuid4()
    order = placed(form_token=token)

    with pytest.raises(processing.AlreadyCreated) as refused:
        placed(form_token=token)

    assert refused.value.order == order
    assert LeadEvent.objects.count() == 1
    assert placed(form_token=uuid.uuid4()) != order


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_sent_many_times_at_once_places_one_order() -> None:
    failed(2)
    token, results = uuid.uuid4(), []

    def send() -> None:
        try:
            results.append(placed(form_token=token).pk)
        except processing.AlreadyCreated as refused:
            results.append(refused.order.pk)

    in_parallel(*[send] * 6)

    assert results == [BulkAction.objects.get().pk] * 6
    assert LeadEvent.objects.count() == 1


def test_placing_takes_as_many_queries_for_any_number_of_leads(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    failed(1)
    with django_assert_num_queries(6):  # the transaction, order, leads, total, event
        placed()
    failed(40)
    with django_assert_num_queries(6):
        placed()


# --- carrying out ----------------------------------------------------------------------------------------------------


def test_an_order_is_carried_out_in_the_order_of_its_leads(queued_leads: Callable[[], list[int]]) -> None:
    leads = failed(3)
    order = placed()

    assert process_pending(now=timezone.now(), most=100) == 3

    done = stored(order)
    assert (done.done, done.skipped, done.waiting, done.claimed_until) == (3, 0, 0, None)
    assert done.finished_at is not None
    assert redelivered() == queued_leads() == [lead.pk for lead in leads]
    event = LeadEvent.objects.filter(kind=EventKind.REDELIVERED).first()
    assert event is not None
    assert (event.actor, event.detail) == ("ann", {"reason": "customer was down", "bulk_action": order.pk})
    assert set(InboundLead.objects.values_list("status", flat=True)) == {"READY"}
    assert not InboundLead.objects.filter(enqueued_at=None).exists()


def test_settling_rings_for_nobody(queued_leads: Callable[[], list[int]]) -> None:
    failed(2)
    order = placed(RESOLVE)

    process_pending(now=timezone.now(), most=100)

    assert stored(order).done == 2
    assert queued_leads() == []
    assert not InboundLead.objects.filter(resolved_at=None).exists()


def test_a_lead_that_has_moved_on_is_refused_with_the_reason_and_the_others_are_done() -> None:
    first, moved, last = failed(3)
    order = placed()
    lead_actions.redeliver(moved.pk, actor="bob", reason="by hand", now=NOW)

    process_pending(now=timezone.now(), most=100)

    assert outcomes(order) == ["done", "skipped", "done"]
    assert (stored(order).done, stored(order).skipped) == (2, 1)
    assert order.items.get(lead=moved).skip_reason == lead_actions.Refusal.IN_PROGRESS
    assert redelivered() == [moved.pk, first.pk, last.pk]


def test_a_lead_that_was_delivered_meanwhile_is_not_sent_again() -> None:
    lead = make.lead(status="FAILED")
    order = placed()
    InboundLead.objects.update(status="DELIVERED", next_attempt_at=None)

    process_pending(now=timezone.now(), most=100)

    lead.refresh_from_db()
    assert lead.status == "DELIVERED"
    assert order.items.get().skip_reason == lead_actions.Refusal.DELIVERED


def test_a_lead_that_was_erased_meanwhile_holds_nothing_up() -> None:
    from leads.audit.append_only import allow_audit_changes

    erased, _ = failed(2)
    order = placed()
    with allow_audit_changes(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM inbound_lead WHERE id = %s", [erased.pk])

    assert process_pending(now=timezone.now(), most=100) == 1

    assert not stored(order).is_open


def test_no_more_leads_than_allowed_are_done_at_a_time_over_all_orders() -> None:
    failed(3)
    first, second = placed(), placed(RESOLVE)

    worked = [process_pending(now=timezone.now(), most=2) for _ in range(4)]

    assert worked == [2, 2, 2, 0]
    assert (stored(first).done, stored(second).skipped) == (3, 3)  # what goes out again needs no attention
    assert not BulkAction.objects.filter(finished_at=None).exists()


@pytest.mark.parametrize(("rate", "interval", "done"), [(2, 1.5, 3), (1, 0.1, 1), (10, 5, 4)])
def test_the_task_keeps_the_pace(settings: Any, rate: int, interval: float, done: int) -> None:
    settings.BULK_ACTION_RATE, settings.WORKER_POLL_INTERVAL = rate, timedelta(seconds=interval)
    failed(4)
    order = placed()

    tasks.process_bulk_actions()

    assert stored(order).done == done
    assert stored(order).is_open == (done < 4)


def test_an_order_stands_when_the_queue_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lead_id: int, **_: Any) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)
    failed(2)

    placed()

    assert process_pending(now=timezone.now(), most=100) == 2

    assert set(InboundLead.objects.values_list("status", "enqueued_at")) == {("READY", None)}  # so that the sweep rings


def test_nothing_ordered_is_nothing_done() -> None:
    assert process_pending(now=timezone.now(), most=100) == 0


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_a_cancelled_order_leaves_the_rest_as_it_is() -> None:
    first, *_ = failed(3)
    order = placed()
    process_pending(now=timezone.now(), most=1)

    assert cancel(order.pk, actor="bob", now=NOW)
    assert process_pending(now=later(minutes=5), most=100) == 0

    assert redelivered() == [first.pk]
    cancelled = stored(order)
    assert (cancelled.cancelled_by, cancelled.cancelled_at, cancelled.finished_at) == ("bob", NOW, None)
    event = LeadEvent.objects.latest("pk")
    assert (event.kind, event.lead_id, event.actor, event.detail) == (
        *("bulk_action_cancelled", None, "bob"),
        {"bulk_action": order.pk, "left": 2},
    )


def test_an_order_that_is_cancelled_under_a_carriers_hands_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _, _ = failed(4)
    order = placed()

    def enqueue(lead_id: int, **_: Any) -> None:
        if lead_id == second.pk:
            cancel(order.pk, actor="bob", now=NOW)

    monkeypatch.setattr(queue, "enqueue", enqueue)

    assert process_pending(now=timezone.now(), most=100) == 2

    assert redelivered() == [first.pk, second.pk]
    assert LeadEvent.objects.latest("pk").detail["left"] == stored(order).waiting == 2
    assert stored(order).finished_at is None


@pytest.mark.parametrize("how", ["finished", "cancelled", "unknown"])
def test_what_is_at_its_end_cannot_be_cancelled(how: str) -> None:
    failed(1)
    order = placed()
    if how == "finished":
        process_pending(now=timezone.now(), most=100)
    else:
        cancel(order.pk, actor="bob", now=NOW)
    before = (BulkAction.objects.values().get(), LeadEvent.objects.count())

    assert not cancel(order.pk + (how == "unknown"), actor="eve", now=NOW)

    assert (BulkAction.objects.values().get(), LeadEvent.objects.count()) == before


# --- carriers that die, and that meet --------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for SIGKILL: nothing of the carrier's own code runs after it."""


def dies_at(monkeypatch: pytest.MonkeyPatch, module: Any, function: str, call: int) -> None:
    """Make the carrier die at a call of a function."""
    calls: list[int] = []
    real = getattr(module, function)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Died
        return real(*args, **kwargs)

    monkeypatch.setattr(module, function, wrapped)


@pytest.mark.parametrize(
    ("module", "function", "done"),
    [(processing, "_give", 1), (processing, "_write_down", 1), (queue, "enqueue", 2), (processing, "_put_down", 3)],
)
def test_where_a_carrier_died_the_next_goes_on_when_its_claim_has_run_out(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: str, done: int
) -> None:
    leads = failed(3)
    order = placed()
    dies_at(monkeypatch, module, function, 1 if function == "_put_down" else 2)

    with pytest.raises(Died):
        process_pending(now=timezone.now(), most=100)

    assert redelivered() == [lead.pk for lead in leads[:done]]
    assert stored(order).done == outcomes(order).count("done") == done
    assert process_pending(now=later(seconds=50), most=100) == 0  # the claim of the dead one
    assert process_pending(now=later(seconds=70), most=100) == 3 - done
    assert redelivered() == [lead.pk for lead in leads]
    assert (stored(order).done, stored(order).is_open) == (3, False)


def test_an_order_in_other_hands_is_left_alone_and_the_next_one_taken() -> None:
    failed(2)
    held, free = placed(), placed(RESOLVE)
    BulkAction.objects.filter(pk=held.pk).update(claimed_until=later(seconds=30))

    assert process_pending(now=timezone.now(), most=100) == 2
    assert process_one(held.pk, now=timezone.now(), most=100) == 0

    assert (stored(held).done, stored(free).done) == (0, 2)


def test_every_lead_renews_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    failed(2)
    order = placed()
    held: list[datetime | None] = []
    monkeypatch.setattr(queue, "enqueue", lambda *_args, **_more: held.append(stored(order).claimed_until))

    process_pending(now=timezone.now() - timedelta(seconds=50), most=100)

    assert [until is not None and until > later(seconds=30) for until in held] == [True, True]


def in_parallel(*functions: Callable[[], Any]) -> None:
    def run(function: Callable[[], Any]) -> None:
        try:
            function()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.django_db(transaction=True)
def test_carriers_that_take_an_order_out_of_each_others_hands_do_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leads = failed(30)
    order = placed()
    monkeypatch.setattr(queue, "enqueue", lambda *_args, **_more: time.sleep(0.002))  # lets the other one in

    def carry_on() -> None:
        while stored(order).is_open:
            process_pending(now=later(minutes=2), most=100)  # by its clock the other's claim has always run out

    in_parallel(carry_on, carry_on)

    assert sorted(redelivered(), key=str) == sorted((lead.pk for lead in leads), key=str)
    assert (stored(order).done, stored(order).skipped) == (30, 0)


@pytest.mark.django_db(transaction=True)
def test_two_carriers_share_the_orders() -> None:
    failed(10)
    first, second = placed(), placed(RESOLVE)
    worked: list[int] = []

    in_parallel(*[lambda: worked.append(process_pending(now=timezone.now(), most=100))] * 2)

    assert sum(worked) == 20
    assert [stored(order).is_open for order in (first, second)] == [False, False]
    assert len(redelivered()) == 10
