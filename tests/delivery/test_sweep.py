from datetime import timedelta

import pytest
from django.utils import timezone

from delivery import sweep as sweeping
from delivery.sweep import sweep
from leadgateway import queue
from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def ago(**parts):
    return NOW - timedelta(**parts)


@pytest.fixture(autouse=True)
def rung(monkeypatch):
    leads = []
    monkeypatch.setattr(queue, "ring", lambda lead_id, **_: leads.append(lead_id))
    monkeypatch.setattr(queue, "depth", lambda: 0)
    return leads


@pytest.mark.parametrize("status", ["RECEIVED", "READY", "FAILED"])
def test_a_due_lead_that_nobody_was_rung_for_is_rung_for_once(rung, status):
    lead = make.lead(status=status, next_attempt_at=ago(seconds=1))

    assert sweep(at=NOW) == 1
    assert sweep(at=NOW + timedelta(seconds=5)) == 0

    assert rung == [lead.pk]
    assert InboundLead.objects.get().rung_at == NOW


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "REJECTED"},
        {"status": "DELIVERED", "next_attempt_at": ago(days=1)},
        {"status": "PERMANENTLY_FAILED"},
        {"status": "FAILED", "next_attempt_at": None},
        {"status": "FAILED", "next_attempt_at": NOW + timedelta(seconds=1)},
        {"next_attempt_at": ago(seconds=1), "claimed_until": NOW + timedelta(seconds=1)},
        {"next_attempt_at": ago(seconds=29), "rung_at": ago(seconds=29)},
    ],
)
def test_any_other_lead_is_left_alone(rung, columns):
    make.lead(**columns)

    assert sweep(at=NOW) == 0
    assert rung == []


@pytest.mark.parametrize(
    "columns",
    [
        {"rung_at": ago(seconds=31)},  # the doorbell was lost
        {"claimed_until": ago(seconds=1)},  # the worker died
    ],
)
def test_what_nobody_answered_is_rung_for_again(rung, columns):
    lead = make.lead(next_attempt_at=ago(minutes=1), **columns)

    assert sweep(at=NOW) == 1
    assert rung == [lead.pk]


@pytest.mark.parametrize("depth", [1001, None])
def test_a_backlog_is_not_rung_again(rung, monkeypatch, depth):
    def deep():
        if depth is None:
            raise queue.QueueUnavailable("TimeoutError")
        return depth

    monkeypatch.setattr(queue, "depth", deep)
    make.lead(next_attempt_at=ago(minutes=1), rung_at=ago(minutes=1))

    assert sweep(at=NOW) == 0
    assert rung == []


def test_a_backlog_does_not_hide_a_lead_that_nobody_was_rung_for(rung, monkeypatch):
    monkeypatch.setattr(queue, "depth", lambda: 100_000)
    lead = make.lead(next_attempt_at=ago(minutes=1))

    assert sweep(at=NOW) == 1
    assert rung == [lead.pk]


def test_the_oldest_come_first_in_batches(rung, monkeypatch):
    monkeypatch.setattr(sweeping, "BATCH", 3)
    leads = [make.lead(next_attempt_at=ago(minutes=age)).pk for age in (1, 5, 3, 2, 4)]

    assert [sweep(at=NOW), sweep(at=NOW), sweep(at=NOW)] == [3, 2, 0]
    assert rung == [leads[1], leads[4], leads[2], leads[3], leads[0]]


def test_with_the_queue_away_in_the_middle_the_rest_is_rung_for_later(rung, monkeypatch):
    leads = [make.lead(next_attempt_at=ago(minutes=age)).pk for age in (3, 2, 1)]

    def fails_after_the_first(lead_id, **_):
        if rung:
            raise queue.QueueUnavailable("TimeoutError")
        rung.append(lead_id)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "ring", fails_after_the_first)
        assert sweep(at=NOW) == 1

    assert sweep(at=NOW) == 2
    assert rung == leads
