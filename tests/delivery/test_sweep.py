from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from delivery import sweep as sweeping
from delivery.control.limits import Limits
from delivery.models import DeliveryControl
from delivery.sweep import LEADS_PER_MESSAGE, sweep
from leadgateway import queue
from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def ago(**parts):
    return NOW - timedelta(**parts)


@pytest.fixture(autouse=True)
def enqueued(monkeypatch):
    leads = []
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, **_: leads.extend(lead_ids))
    monkeypatch.setattr(queue, "depth", lambda: 0)
    return leads


@pytest.mark.parametrize("status", ["RECEIVED", "READY", "FAILED"])
def test_a_due_lead_is_enqueued_once(enqueued, status):
    lead = make.lead(status=status, next_attempt_at=ago(seconds=1))

    assert sweep(now=NOW) == 1
    assert sweep(now=NOW + timedelta(seconds=5)) == 0

    assert enqueued == [lead.pk]
    assert InboundLead.objects.get().enqueued_at == NOW


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "DELIVERED", "next_attempt_at": ago(days=1)},
        {"status": "FAILED", "next_attempt_at": None},
        {"status": "FAILED", "next_attempt_at": NOW + timedelta(seconds=1)},
        {"next_attempt_at": ago(seconds=1), "claimed_until": NOW + timedelta(seconds=1)},
        {"next_attempt_at": ago(seconds=29), "enqueued_at": ago(seconds=29)},
    ],
)
def test_other_leads_are_not_enqueued(enqueued, columns):
    make.lead(**columns)

    assert sweep(now=NOW) == 0
    assert enqueued == []


@pytest.mark.parametrize(
    "columns",
    [
        {"enqueued_at": ago(seconds=31)},  # the message was lost
        {"claimed_until": ago(seconds=1)},  # the worker stopped
    ],
)
def test_a_lead_whose_message_or_worker_was_lost_is_enqueued_again(enqueued, columns):
    lead = make.lead(next_attempt_at=ago(minutes=1), **columns)

    assert sweep(now=NOW) == 1
    assert enqueued == [lead.pk]


@pytest.mark.parametrize("depth", [1001, None])
def test_a_backlog_is_not_enqueued_again_but_does_not_hide_a_lead_without_a_message(enqueued, monkeypatch, depth):
    def deep():
        if depth is None:
            raise queue.QueueUnavailable("TimeoutError")
        return depth

    monkeypatch.setattr(queue, "depth", deep)
    make.lead(next_attempt_at=ago(minutes=1), enqueued_at=ago(minutes=1))
    new = make.lead(next_attempt_at=ago(minutes=1))

    assert sweep(now=NOW) == 1
    assert enqueued == [new.pk]


def test_a_backlog_does_not_hide_a_lead_whose_message_was_lost(enqueued):
    lost = make.lead(status="FAILED", next_attempt_at=ago(minutes=1), enqueued_at=ago(minutes=1))
    for number in range(20):
        make.lead(status="READY", next_attempt_at=ago(minutes=60 - number))

    sweep(now=NOW, limits=Limits(interval=timedelta(seconds=1)))

    assert len(enqueued) == 5
    assert lost.pk in enqueued


def test_the_oldest_come_first_in_batches(enqueued, monkeypatch):
    monkeypatch.setattr(sweeping, "BATCH", 3)
    leads = [make.lead(next_attempt_at=ago(minutes=age)).pk for age in (1, 5, 3, 2, 4)]

    assert [sweep(now=NOW), sweep(now=NOW), sweep(now=NOW)] == [3, 2, 0]
    assert enqueued == [leads[1], leads[4], leads[2], leads[3], leads[0]]


def test_two_simultaneous_sweeps_enqueue_a_lead_once(enqueued, monkeypatch):
    lead = make.lead(next_attempt_at=ago(seconds=1))
    lost = make.lead(status="FAILED", next_attempt_at=ago(minutes=1), enqueued_at=ago(minutes=1))
    others = iter([sweep])

    def run_other_sweep():
        """Run between the choice of the leads and their marking."""
        for other in others:
            assert other(now=NOW) == 2
        return 0

    monkeypatch.setattr(queue, "depth", run_other_sweep)

    assert sweep(now=NOW) == 0
    assert enqueued == [lead.pk, lost.pk]


@pytest.mark.needs_postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(10)
def test_a_lead_that_a_frozen_process_has_locked_does_not_block_others(enqueued, postgres):
    stuck, other = (make.lead(next_attempt_at=ago(seconds=1)) for _ in range(2))
    with psycopg.connect(postgres.url_of(connection.settings_dict["NAME"])) as frozen:
        frozen.execute("SELECT 1 FROM inbound_lead WHERE id = %s FOR UPDATE", [stuck.pk])

        assert sweep(now=NOW) == 1

    assert enqueued == [other.pk]


def test_leads_left_when_the_queue_becomes_unavailable_are_enqueued_later(enqueued, monkeypatch):
    leads = [make.lead(next_attempt_at=ago(minutes=age)).pk for age in range(LEADS_PER_MESSAGE + 2, 0, -1)]

    def fails_after_the_first(lead_ids, **_):
        if enqueued:
            raise queue.QueueUnavailable("TimeoutError")
        enqueued.extend(lead_ids)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "enqueue", fails_after_the_first)
        assert sweep(now=NOW) == LEADS_PER_MESSAGE

    assert sweep(now=NOW) == 2
    assert enqueued == leads


# --- delivery control ------------------------------------------------------------------------------------------------


@pytest.fixture
def enqueued_after(monkeypatch):
    """Return a dict of each enqueued lead and its delay in seconds."""
    waits = {}
    monkeypatch.setattr(
        queue,
        "enqueue",
        lambda lead_ids, delay, **_: waits.update(dict.fromkeys(lead_ids, round(delay.total_seconds(), 3))),
    )
    return waits


PAUSED = {"paused_at": NOW}
DOWN = {"circuit_opened_at": NOW, "next_probe_at": NOW + timedelta(seconds=30)}


@pytest.mark.parametrize("state", [PAUSED, DOWN, PAUSED | {"circuit_opened_at": NOW, "next_probe_at": NOW}])
def test_while_nothing_is_sent_only_new_leads_are_enqueued(enqueued, state):
    DeliveryControl.objects.create(**state)
    for _ in range(20):
        make.lead(status="FAILED", next_attempt_at=ago(minutes=1))
        make.lead(status="READY", next_attempt_at=ago(minutes=1), enqueued_at=ago(minutes=1))
    new = make.lead(next_attempt_at=ago(seconds=1))

    assert sweep(now=NOW) == 1
    assert enqueued == [new.pk]


def test_one_lead_is_enqueued_when_a_probe_is_due_and_another_when_its_message_is_lost(enqueued):
    DeliveryControl.objects.create(circuit_opened_at=ago(minutes=1), next_probe_at=NOW)
    leads = [
        make.lead(status=status, next_attempt_at=ago(minutes=age)).pk for status, age in (("READY", 3), ("FAILED", 2))
    ]

    assert [sweep(now=NOW + timedelta(seconds=later)) for later in (0, 5, 10)] == [1, 1, 0]
    assert enqueued == leads
    sweep(now=NOW + timedelta(seconds=40))
    assert enqueued == [*leads, leads[0]]


def test_messages_are_spread_by_the_rate_limit(enqueued_after):
    leads = [make.lead(next_attempt_at=ago(minutes=10 - number)).pk for number in range(8)]

    assert sweep(now=NOW, limits=Limits(interval=timedelta(seconds=1)), window=timedelta(seconds=5)) == 5

    assert enqueued_after == dict(zip(leads[:5], [0, 1, 2, 3, 4], strict=True))
    assert InboundLead.objects.get(pk=leads[0]).enqueued_at == NOW + timedelta(seconds=4)
    assert InboundLead.objects.get(pk=leads[5]).enqueued_at is None


def test_no_lead_is_enqueued_while_the_customer_asks_to_wait(enqueued):
    DeliveryControl.objects.create(next_send_at=NOW + timedelta(minutes=1))
    make.lead(status="FAILED", next_attempt_at=ago(minutes=1))

    assert sweep(now=NOW) == 0


def test_a_new_lead_does_not_wait_for_many_older_retries(enqueued):
    retries = [make.lead(status="FAILED", next_attempt_at=ago(minutes=60 - number)).pk for number in range(30)]
    new = make.lead(status="READY", next_attempt_at=ago(seconds=1))

    sweep(now=NOW, limits=Limits(interval=timedelta(seconds=1)))

    assert enqueued == [new.pk, *retries[:4]]
