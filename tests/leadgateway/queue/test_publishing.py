import json
import socket
from datetime import timedelta

import pytest
import redis as redis_client
from django.conf import settings

from leadgateway import queue
from leadgateway.queue import publishing

pytestmark = pytest.mark.skipif("settings.QUEUE_TYPE != 'redis'", reason="tests Redis")


@pytest.fixture(autouse=True)
def fresh_queue():
    """Give each test connections of its own and an empty queue."""
    client = redis_client.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    publishing.producers.cache_clear()
    yield client
    publishing.producers.cache_clear()
    client.close()


def broken_url(monkeypatch, port):
    monkeypatch.setattr(publishing.app.conf, "broker_write_url", f"redis://127.0.0.1:{port}/0")


def test_new_leads_and_retries_have_the_specified_queues(fresh_queue):
    assert queue.depth() == 0
    queue.enqueue([1])
    queue.enqueue([2], is_retry=True)

    assert fresh_queue.llen("queue:process_lead") == fresh_queue.llen("queue:process_lead_retry") == 1
    assert queue.depth() == 2
    assert queue.depths() == {"queue:process_lead": 1, "queue:process_lead_retry": 1}


def test_a_message_contains_only_the_ids_of_its_leads(fresh_queue):
    queue.enqueue([123, 124])

    message = json.loads(fresh_queue.lrange("queue:process_lead", 0, -1)[0])
    assert message["headers"]["task"] == "process_lead"
    assert message["headers"]["kwargsrepr"] == "{'lead_ids': [123, 124]}"
    assert message["headers"]["eta"] is None


def test_a_message_may_have_a_delay(fresh_queue):
    queue.enqueue([1], delay=timedelta(seconds=30))

    assert json.loads(fresh_queue.lrange("queue:process_lead", 0, -1)[0])["headers"]["eta"] is not None


def test_after_failures_the_broker_is_not_called_for_a_moment(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        broken_url(monkeypatch, unused.getsockname()[1])

        for _ in range(3):
            with pytest.raises(queue.QueueUnavailable, match="OperationalError"):
                queue.enqueue([1])
    with pytest.raises(queue.QueueUnavailable, match="a moment ago"):
        queue.enqueue([1])


@pytest.mark.timeout(60)  # without our bounds the publish would hang
def test_an_unresponsive_broker_times_out(monkeypatch, settings):
    settings.QUEUE_TIMEOUT = timedelta(milliseconds=200)
    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen()
        broken_url(monkeypatch, black_hole.getsockname()[1])

        with pytest.raises(queue.QueueUnavailable):
            queue.enqueue([1])
