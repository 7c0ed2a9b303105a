"""What the customer can take: the pace and the places of all workers together."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from delivery import pipeline
from delivery.control.limits import Limits, queued_leads, reserve_send_time
from delivery.models import DeliveryControl
from delivery.pipeline import advance
from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
FIVE_SECONDS = timedelta(seconds=5)
TWENTY_A_SECOND = Limits(interval=timedelta(milliseconds=50))
TWO_AT_A_TIME = Limits(concurrency=2)


def seconds(*values):
    return [timedelta(seconds=value) for value in values]


def stored(lead):
    return InboundLead.objects.get(pk=lead.pk)


def turns(count, *, now=NOW, limits=TWENTY_A_SECOND):
    """Take so many turns at one moment; return how many seconds later each is, None for none."""
    taken = []
    for _ in range(count):
        with transaction.atomic():
            turn = reserve_send_time(DeliveryControl.objects.locked(), 0, limits=limits, now=now)
        taken.append(turn and (turn - now).total_seconds())
    return taken


# --- the pace --------------------------------------------------------------------------------------------------------


def test_turns_are_an_interval_apart_and_only_half_a_second_ahead():
    assert turns(13) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, None, None]
    assert turns(1, now=NOW + timedelta(milliseconds=50)) == [0.5]


def test_what_was_not_used_is_not_saved_up():
    turns(1)

    assert turns(2, now=NOW + timedelta(hours=1)) == [0, 0.05]


def test_of_many_workers_no_two_have_the_same_turn():
    taken, starting_line = [], threading.Barrier(8)

    def take():
        starting_line.wait()
        taken.extend(turns(1))
        connection.close()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]


def test_a_lead_leaves_at_its_turn(config, customer):
    leads = [make.lead(status="READY") for _ in range(4)]
    config = replace(config, limits=Limits(interval=timedelta(milliseconds=300)))

    for lead in leads:
        advance(lead.pk, config=config)

    first, *others = [lead.attempts.get().requested_at for lead in leads]
    assert [round((other - first).total_seconds(), 3) for other in others] == [0.3, 0.6, 0.9]
    assert len(customer.requests) == 4


def test_a_lead_without_a_turn_is_put_back_with_no_attempt(config, customer):
    config = replace(config, limits=Limits(interval=timedelta(seconds=3)))
    lead, late = make.lead(status="READY"), make.lead(status="READY")
    advance(lead.pk, config=config)

    assert advance(late.pk, config=config) is None

    waiting = stored(late)
    assert (waiting.status, waiting.next_attempt_at, waiting.enqueued_at) == ("READY", late.next_attempt_at, None)
    assert waiting.claim_token is None
    assert not late.attempts.exists()


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        ("status=429", 1),
        ("status=429&retry_after=7", 7),
        ("status=429&retry_after=3600", 60),
    ],
)
def test_a_429_slows_all_down(config, customer, answer, pause):
    customer.set_mode(answer)
    lead, other = make.lead(), make.lead()

    advance(lead.pk, config=config)
    advance(other.pk, config=config)

    assert DeliveryControl.objects.get().next_send_at == lead.attempts.get().finished_at + timedelta(seconds=pause)
    assert not other.attempts.exists()


def test_a_pause_that_is_over_is_no_obstacle(config, customer):
    DeliveryControl.objects.create(next_send_at=timezone.now() - timedelta(seconds=1))
    lead = make.lead()

    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"


# --- places ----------------------------------------------------------------------------------------------------------


def in_progress(*, until):
    lead = make.lead(status="READY", claimed_until=until)
    make.attempt(lead, requested_at=NOW, finished_at=None)


def test_only_so_many_are_sent_at_a_time():
    for _ in range(2):
        in_progress(until=NOW + timedelta(seconds=30))

    assert turns(1, limits=TWO_AT_A_TIME) == [None]


def test_a_dead_workers_place_is_free_when_its_lease_is_over():
    in_progress(until=NOW + timedelta(seconds=30))
    in_progress(until=NOW - timedelta(seconds=1))

    assert turns(1, limits=TWO_AT_A_TIME) == [0]


def test_a_lead_that_comes_back_calls_the_next(config, customer, queued_leads):
    config = replace(config, limits=TWO_AT_A_TIME)
    lead, waiting = make.lead(), make.lead(status="FAILED", next_attempt_at=NOW - timedelta(minutes=1))

    advance(lead.pk, config=config)

    assert queued_leads() == [waiting.pk]
    assert stored(waiting).enqueued_at is not None


def test_nobody_is_called_once_delivery_is_held(config, customer, queued_leads, monkeypatch):
    exchange = pipeline._exchange

    def held_meanwhile(*args, **kwargs):
        DeliveryControl.objects.update_or_create(pk=1, defaults={"paused_at": NOW})
        return exchange(*args, **kwargs)

    monkeypatch.setattr(pipeline, "_exchange", held_meanwhile)
    make.lead(status="FAILED")

    advance(make.lead().pk, config=replace(config, limits=TWO_AT_A_TIME))

    assert queued_leads() == []


def test_a_lead_does_not_stand_in_its_own_way(config, customer):
    lead = make.lead(status="READY")
    make.attempt(lead, finished_at=None)  # its worker died

    advance(lead.pk, config=replace(config, limits=Limits(concurrency=1)))

    assert stored(lead).status == "DELIVERED"


def test_a_lead_that_was_put_back_calls_nobody(config, customer, queued_leads):
    for _ in range(2):
        in_progress(until=timezone.now() + timedelta(seconds=30))
    lead = make.lead()
    make.lead(status="FAILED")

    advance(lead.pk, config=replace(config, limits=TWO_AT_A_TIME))

    assert queued_leads() == []


def test_many_workers_do_not_take_more_places_than_there_are(config, customer, monkeypatch):
    """Eight workers, two places: never more than two requests at a time."""
    config, exchange = replace(config, limits=TWO_AT_A_TIME), pipeline._exchange
    now_out, most, lock = set(), [0], threading.Lock()

    def counted(lead, attempt, **kwargs):
        with lock:
            now_out.add(lead.pk)
            most[0] = max(most[0], len(now_out))
        answer = exchange(lead, attempt, **kwargs)
        with lock:
            now_out.discard(lead.pk)
        return answer

    def work(lead_id):
        try:
            for _ in range(10):
                advance(lead_id, config=config)
        finally:
            connection.close()

    customer.set_mode("delay=50ms")
    monkeypatch.setattr(pipeline, "_exchange", counted)
    monkeypatch.setattr(pipeline.sweep, "enqueue_next", lambda **_: None)
    threads = [threading.Thread(target=work, args=(make.lead(status="READY").pk,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most[0] == 2


# --- what the sweep may ring for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "free_in", "waits"),
    [
        (Limits(), 0, seconds(*[0] * 7)),
        (Limits(), 2, seconds(*[2] * 7)),
        (Limits(), 5, []),
        (TWO_AT_A_TIME, 0, seconds(0, 0)),
        (Limits(interval=timedelta(seconds=2)), 0, seconds(0, 2, 4)),
        (Limits(interval=timedelta(seconds=2)), 3, seconds(3)),
        (Limits(interval=timedelta(seconds=20)), 0, seconds(0)),
        (Limits(interval=timedelta(milliseconds=500)), 0, seconds(0, 0.5, 1, 1.5, 2, 2.5, 3)),
    ],
)
def test_doorbells_are_spread_over_the_time_until_the_next_sweep(limits, free_in, waits):
    gate = DeliveryControl(next_send_at=NOW + timedelta(seconds=free_in))

    assert queued_leads(gate, limits, now=NOW, window=FIVE_SECONDS, most=7) == waits
