"""The doorbell's task: a countdown that is over takes its place in the queue."""

from collections.abc import Callable

import pytest

from delivery.tasks import process_lead
from leadgateway import queue
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def advanced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of the leads that were advanced; nothing else happens to them."""
    leads: list[int] = []
    monkeypatch.setattr("delivery.tasks.advance", lambda lead_id, **_: leads.append(lead_id))
    return leads


def answer(lead_id: int, **request: object) -> None:
    """Run the task as a worker does that was given such a message."""
    process_lead.push_request(**request)
    try:
        process_lead.run(lead_id)
    finally:
        process_lead.pop_request()


ETA = "2026-01-21T12:00:00+00:00"


@pytest.mark.parametrize("request_", [{}, {"eta": None}, {"eta": ETA, "retries": 1}])
def test_a_doorbell_is_answered(advanced: list[int], queued_leads: Callable[[], list[int]], request_: dict) -> None:
    lead = make.lead()

    answer(lead.pk, **request_)

    assert advanced == [lead.pk]
    assert queued_leads() == []


def test_a_countdown_that_is_over_goes_through_the_queue(
    advanced: list[int], queued_leads: Callable[[], list[int]]
) -> None:
    lead = make.lead()

    answer(lead.pk, eta=ETA, retries=0)

    assert advanced == []
    assert queued_leads() == [lead.pk]


def test_without_the_queue_it_is_answered_at_once(advanced: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lead_id: int, **_: object) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)

    answer(7, eta=ETA, retries=0)

    assert advanced == [7]
