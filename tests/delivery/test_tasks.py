"""The task `process_lead`: from a message to the leads' results and further messages."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from delivery import pipeline, tasks
from delivery.configuration import Configuration
from delivery.tasks import process_lead
from delivery.window import Window
from leadgateway import queue
from leads.models import InboundLead
from tests import make
from tests.hostile_customer import HostileCustomer

pytestmark = pytest.mark.django_db(transaction=True)

ETA = "2026-01-21T12:00:00+00:00"

QueuedLeads = Callable[[], list[int]]


@pytest.fixture(autouse=True)
def window(config: Configuration, monkeypatch: pytest.MonkeyPatch) -> Window:
    """Replace the process's window by one that sends to the test's customer."""
    window = Window(2, config=config)
    monkeypatch.setattr(tasks, "window", lambda: window)
    return window


def run_task(*lead_ids: int, **request: object) -> None:
    """Run the task with the attributes of a message."""
    process_lead.push_request(**request)
    try:
        process_lead.run(lead_ids)
    finally:
        process_lead.pop_request()


def statuses() -> list[str]:
    return list(InboundLead.objects.order_by("pk").values_list("status", flat=True))


@pytest.mark.parametrize("request_", [{}, {"eta": None}, {"eta": ETA, "retries": 1}])
def test_the_leads_of_a_message_are_delivered(queued_leads: QueuedLeads, request_: dict) -> None:
    leads = [make.lead() for _ in range(5)]

    run_task(*(lead.pk for lead in leads), 2_000_000_000, leads[0].pk, **request_)

    assert statuses() == ["DELIVERED"] * 5
    assert queued_leads() == []


def test_a_message_whose_countdown_has_ended_is_put_into_the_queue(queued_leads: QueuedLeads) -> None:
    first, second = make.lead(), make.lead()

    run_task(first.pk, second.pk, eta=ETA, retries=0)

    assert statuses() == ["RECEIVED", "RECEIVED"]
    assert queued_leads() == [first.pk, second.pk]


def test_without_the_queue_it_is_processed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lead_ids: list[int], **_: object) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)
    lead = make.lead()

    run_task(lead.pk, eta=ETA, retries=0)

    assert statuses() == ["DELIVERED"]


def test_leads_that_failed_get_messages_for_their_next_attempts(
    customer: HostileCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[tuple[list[int], timedelta]] = []
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, delay, **_: messages.append((lead_ids, delay)))
    customer.set_mode("status=503")
    leads = [make.lead().pk for _ in range(3)]

    run_task(*leads)

    assert sorted(lead for lead_ids, _ in messages for lead in lead_ids) == leads
    assert all(timedelta(seconds=15) < delay <= timedelta(seconds=30) for _, delay in messages)


def test_without_the_queue_the_sweep_finds_leads_that_failed(
    customer: HostileCustomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_lead_ids: list[int], **_: object) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)
    customer.set_mode("status=503")
    lead = make.lead()

    run_task(lead.pk)

    lead.refresh_from_db()
    assert (lead.status, lead.enqueued_at) == ("FAILED", None)


def test_a_worker_that_stops_puts_leads_back_that_it_has_not_claimed(window: Window, queued_leads: QueuedLeads) -> None:
    lead = make.lead(enqueued_at=timezone.now())
    window.stop()

    run_task(lead.pk)

    assert statuses() == ["RECEIVED"]
    assert queued_leads() == [lead.pk]


def test_the_task_is_tried_again_when_the_database_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(pipeline, "claim", fail)

    with pytest.raises(OperationalError):
        run_task(make.lead().pk)

    assert OperationalError in process_lead.autoretry_for
