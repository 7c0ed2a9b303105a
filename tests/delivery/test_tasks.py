"""The task `process_lead`: a message whose countdown has ended goes through the queue."""

from collections.abc import Callable

import pytest

from delivery.tasks import process_lead
from leadgateway import queue
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def advanced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of leads that reached the pipeline, which is replaced."""
    leads: list[int] = []
    monkeypatch.setattr("delivery.tasks.advance", lambda lead_id, **_: leads.append(lead_id))
    return leads


def run_task(lead_id: int, **request: object) -> None:
    """Run the task with the attributes of a message."""
    process_lead.push_request(**request)
    try:
        process_lead.run([lead_id])
    finally:
        process_lead.pop_request()


ETA = "2026-01-21T12:00:00+00:00"


@pytest.mark.parametrize("request_", [{}, {"eta": None}, {"eta": ETA, "retries": 1}])
def test_a_message_is_processed(advanced: list[int], queued_leads: Callable[[], list[int]], request_: dict) -> None:
    lead = make.lead()

    run_task(lead.pk, **request_)

    assert advanced == [lead.pk]
    assert queued_leads() == []


def test_a_message_whose_countdown_has_ended_is_put_into_the_queue(
    advanced: list[int], queued_leads: Callable[[], list[int]]
) -> None:
    lead = make.lead()

    run_task(lead.pk, eta=ETA, retries=0)

    assert advanced == []
    assert queued_leads() == [lead.pk]


def test_without_the_queue_it_is_processed_at_once(advanced: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lead_ids: list[int], **_: object) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)

    run_task(7, eta=ETA, retries=0)

    assert advanced == [7]
