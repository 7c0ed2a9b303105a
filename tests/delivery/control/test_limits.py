"""Rate and concurrency limits, for all workers together."""

import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from delivery.control.limits import Limits, enqueue_delays, reserve_send_times
from delivery.models import DeliveryControl
from leads.models import InboundLead
from tests import make
from tests.background import run_at_once
from tests.delivery.conftest import advance, during_request

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
FIVE_SECONDS = timedelta(seconds=5)
TWENTY_A_SECOND = Limits(interval=timedelta(milliseconds=50))
TWO_AT_A_TIME = Limits(concurrency=2)


def seconds(*values):
    return [timedelta(seconds=value) for value in values]


def stored(lead):
    return InboundLead.objects.get(pk=lead.pk)


def reserve(count, *, now=NOW, limits=TWENTY_A_SECOND):
    """Reserve `count` send times at one moment; return the seconds until each, None for none."""
    taken = []
    for _ in range(count):
        with transaction.atomic():
            send_at = reserve_send_times(DeliveryControl.objects.locked(), [0], limits=limits, now=now).get(0)
        taken.append(send_at and (send_at - now).total_seconds())
    return taken


# --- rate ------------------------------------------------------------------------------------------------------------


def test_send_times_are_an_interval_apart_and_at_most_half_a_second_ahead():
    assert reserve(13) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, None, None]
    assert reserve(1, now=NOW + timedelta(milliseconds=50)) == [0.5]


def test_unused_send_times_are_not_saved():
    reserve(1)

    assert reserve(2, now=NOW + timedelta(hours=1)) == [0, 0.05]


def test_no_two_of_many_workers_get_the_same_send_time():
    taken = []

    run_at_once(*[lambda: taken.extend(reserve(1))] * 8)

    assert sorted(taken) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]


def test_a_lead_is_sent_at_its_send_time(config, customer):
    leads = [make.lead(status="READY") for _ in range(4)]
    config = replace(config, limits=Limits(interval=timedelta(milliseconds=300)))

    for lead in leads:
        advance(lead.pk, config=config)

    first, *others = [lead.attempts.get().requested_at for lead in leads]
    for other, interval in zip(others, (0.3, 0.6, 0.9), strict=True):
        assert interval - 0.001 < (other - first).total_seconds() < interval + 10
    assert len(customer.requests) == 4


def test_a_lead_without_a_send_time_is_released_without_an_attempt(config, customer):
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
def test_a_429_makes_all_leads_wait(config, customer, answer, pause):
    customer.set_mode(answer)
    lead, other = make.lead(), make.lead()

    advance(lead.pk, config=config)
    advance(other.pk, config=config)

    assert DeliveryControl.objects.get().next_send_at == lead.attempts.get().finished_at + timedelta(seconds=pause)
    assert not other.attempts.exists()


# --- concurrency -----------------------------------------------------------------------------------------------------


def in_progress(*, until):
    lead = make.lead(status="READY", claimed_until=until)
    make.attempt(lead, requested_at=NOW, finished_at=None)


def test_a_lead_of_a_stopped_worker_counts_until_its_lease_expires():
    in_progress(until=NOW + timedelta(seconds=30))
    in_progress(until=NOW - timedelta(seconds=1))
    assert reserve(1, limits=TWO_AT_A_TIME) == [0]

    in_progress(until=NOW + timedelta(seconds=30))
    assert reserve(1, limits=TWO_AT_A_TIME) == [None]


def test_a_delivery_enqueues_the_next_waiting_lead(config, customer, queued_leads):
    config = replace(config, limits=TWO_AT_A_TIME)
    lead, waiting = make.lead(), make.lead(status="FAILED", next_attempt_at=NOW - timedelta(minutes=1))

    advance(lead.pk, config=config)

    assert queued_leads() == [waiting.pk]
    assert stored(waiting).enqueued_at is not None


def test_a_delivery_enqueues_no_lead_while_delivery_is_paused(config, customer, queued_leads):
    config = replace(config, limits=TWO_AT_A_TIME)
    make.lead(status="FAILED")

    def pause():
        DeliveryControl.objects.update_or_create(pk=1, defaults={"paused_at": NOW})

    advance(make.lead().pk, config=during_request(config, before=pause))

    assert queued_leads() == []


def test_an_earlier_attempt_of_the_lead_itself_does_not_count(config, customer):
    lead = make.lead(status="READY")
    make.attempt(lead, finished_at=None)  # its worker stopped

    advance(lead.pk, config=replace(config, limits=Limits(concurrency=1)))

    assert stored(lead).status == "DELIVERED"


def test_a_released_lead_enqueues_no_other(config, customer, queued_leads):
    for _ in range(2):
        in_progress(until=timezone.now() + timedelta(seconds=30))
    lead = make.lead()
    make.lead(status="FAILED")

    advance(lead.pk, config=replace(config, limits=TWO_AT_A_TIME))

    assert queued_leads() == []


def test_many_workers_send_no_more_requests_at_a_time_than_allowed(config, customer, queued_leads):
    """Eight workers and a limit of two: never more than two requests at a time."""
    in_progress, most, lock, two_at_a_time = [0], [0], threading.Lock(), threading.Event()

    def count(change):
        with lock:
            in_progress[0] += change
            most[0] = max(most[0], in_progress[0])
            if most[0] == 2:
                two_at_a_time.set()

    def before():
        count(1)
        two_at_a_time.wait(10)  # a slow machine must not run the requests one after the other

    config = during_request(replace(config, limits=TWO_AT_A_TIME), before=before, after=lambda: count(-1))

    def work(lead_id):
        for _ in range(10):
            advance(lead_id, config=config)

    customer.set_mode("delay=50ms")
    run_at_once(*(partial(work, make.lead(status="READY").pk) for _ in range(8)))

    assert most[0] == 2


# --- messages of the sweep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "free_in", "waits"),
    [
        (Limits(), 0, seconds(*[0] * 7)),
        (Limits(), 5, []),
        (TWO_AT_A_TIME, 0, seconds(0, 0)),
        (Limits(interval=timedelta(seconds=2)), 0, seconds(0, 2, 4)),
        (Limits(interval=timedelta(seconds=2)), 3, seconds(3)),
        (Limits(interval=timedelta(seconds=20)), 0, seconds(0)),
        (Limits(interval=timedelta(milliseconds=500)), 0, seconds(0, 0.5, 1, 1.5, 2, 2.5, 3)),
    ],
)
def test_messages_are_spread_over_the_time_until_the_next_sweep(limits, free_in, waits):
    control = DeliveryControl(next_send_at=NOW + timedelta(seconds=free_in))

    assert enqueue_delays(control, limits, now=NOW, window=FIVE_SECONDS, most=7) == waits
