"""Checks of the queue, on a sound and on a badly configured Redis."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from stats.monitoring.checks import queue
from stats.monitoring.checks.result import Verdict
from tests.servers import RedisServer
from tests.stats.monitoring.checks.results import only_result

OK, WARNING, FAILURE = Verdict.OK, Verdict.WARNING, Verdict.FAILURE


@pytest.mark.usefixtures("queued_leads")
def test_an_empty_queue_passes() -> None:
    assert only_result(queue.reachable).facts == {"depth": 0}
    assert only_result(queue.server, "queue_server").verdict is OK


@pytest.fixture
def own_redis(settings: Any) -> Iterator[RedisServer]:
    """A Redis that the test may reconfigure, and that the checks use."""
    with RedisServer() as server:
        settings.QUEUE_TYPE, settings.REDIS_URL = "redis", server.url
        settings.CELERY_BROKER_URL, settings.CELERY_BROKER_TRANSPORT_OPTIONS = server.url, {}
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values", "check"),
    [
        ("maxmemory-policy", ("noeviction", "allkeys-lru"), "redis_memory"),
        ("appendonly", ("yes", "no"), "redis_persistence"),
    ],
)
def test_a_redis_that_may_lose_messages_is_a_warning(
    own_redis: RedisServer, name: str, values: tuple[str, str], check: str
) -> None:
    verdicts = []
    for value in values:
        with own_redis.client() as client:
            client.config_set(name, value)
        verdicts.append(only_result(queue.server, check).verdict)

    assert verdicts == [OK, WARNING]


@pytest.mark.slow
def test_a_frozen_redis_is_reported_in_time(own_redis: RedisServer) -> None:
    own_redis.freeze()
    started = time.monotonic()

    result = only_result(queue.server)

    own_redis.thaw()
    assert result.verdict is FAILURE
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_without_an_answer_from_any_worker_the_ping_fails(own_redis: RedisServer) -> None:
    assert only_result(queue.answering_workers).verdict is FAILURE
