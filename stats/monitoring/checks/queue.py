"""Checks of the queue: reachable, configured to keep its messages, and with workers that answer."""

import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from leadgateway import queue
from leadgateway.celery import app
from leadgateway.dependencies import broker, queue_name, queue_problem, redis_client
from stats.monitoring.checks.check import Check, Consumer
from stats.monitoring.checks.result import CheckResult, failure, ok, warning

_MIN_REDIS = 6
_SLOW_MS = 50.0

#: How long workers have to answer a ping.
_PING_TIMEOUT_S = 1.5


def reachable() -> Iterator[CheckResult]:
    """Ask for the depth of the queue."""
    try:
        yield ok("queue", depth=queue.depth())
    except queue.QueueUnavailable as error:
        yield failure("queue", error=str(error))


def server() -> Iterator[CheckResult]:
    """Check the broker's version, latency and settings, or the directory of QUEUE_TYPE=database."""
    if problem := queue_problem():
        yield failure("queue_server", code="unavailable", name=queue_name(), error=problem)
    elif settings.QUEUE_TYPE == "redis":
        yield from _redis()
    elif settings.QUEUE_TYPE == "rabbitmq":
        yield from _rabbitmq()
    else:
        yield ok("queue_server", code="queue_directory", name=queue_name())


def _redis() -> Iterator[CheckResult]:
    with broker() as connected:
        client = redis_client(connected)
        started = time.perf_counter()
        client.ping()
        latency = (time.perf_counter() - started) * 1000
        info: dict[str, Any] = client.info()
    version = str(info["redis_version"])
    facts = {"name": queue_name(), "version": version, "latency_ms": round(latency, 1)}
    if int(version.partition(".")[0]) < _MIN_REDIS:
        yield failure("queue_server", code="too_old", **facts)
    elif latency > _SLOW_MS:
        yield warning("queue_server", **facts)
    else:
        yield ok("queue_server", **facts)
    policy = info.get("maxmemory_policy", "unknown")
    yield (ok if policy == "noeviction" else warning)("redis_memory", policy=policy)
    yield (ok if info.get("aof_enabled") else warning)("redis_persistence")


def _rabbitmq() -> Iterator[CheckResult]:
    with broker() as connected:
        server: Any = connected.connection
        started = time.perf_counter()
        with server.channel():
            latency = (time.perf_counter() - started) * 1000
        version = str(server.server_properties["version"])
    facts = {"name": queue_name(), "version": version, "latency_ms": round(latency, 1)}
    yield (warning if latency > _SLOW_MS else ok)("queue_server", **facts)


def answering_workers() -> Iterator[CheckResult]:
    """Ping the workers through the broker. The queue of QUEUE_TYPE=database has no answers."""
    if settings.QUEUE_TYPE == "database":
        return
    if queue_problem():
        yield failure("worker_ping", code="queue_unavailable")
        return
    with broker() as connected:
        answers = app.control.inspect(timeout=_PING_TIMEOUT_S, connection=connected).ping() or {}
    if answers:
        yield ok("worker_ping", workers=sorted(answers))
    else:
        yield failure("worker_ping", code="no_answer")


CHECKS = (
    Check("queue", reachable, used_by=Consumer.READINESS, in_background=True),
    Check("queue_server", server),
    Check("worker_ping", answering_workers),
)
