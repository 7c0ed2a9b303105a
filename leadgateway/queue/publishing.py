"""Rings the doorbell: puts "look at lead 123" into the queue, by the task's name; knows no task."""

from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from kombu import pools

from leadgateway import tracing
from leadgateway.breaker import Breaker
from leadgateway.celery import app

_NO_RETRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}

_breaker = Breaker(pause=timedelta(seconds=1))


class QueueUnavailable(Exception):
    """The broker did not take the message, or could not say how many it holds."""


def enqueue(lead_id: int, *, after: timedelta = timedelta(), again: bool = False) -> None:
    """Ask a worker to look at a lead, now or `after` a while; takes QUEUE_TIMEOUT and a half at most.

    A doorbell may be lost or ring twice: the claim in the database and the sweep decide.

    :param again: the lead is not new. It goes into a queue of its own, which takes turns with that of the new ones.
    :raises QueueUnavailable: the broker refused, did not answer in time, or failed repeatedly a moment ago.
    """
    if _breaker.is_open:
        raise QueueUnavailable("failed repeatedly a moment ago")
    try:
        with _producers().acquire(block=True, timeout=settings.QUEUE_TIMEOUT.total_seconds()) as producer:
            app.send_task(
                "process_lead",
                kwargs={"lead_id": lead_id},
                queue=settings.RETRY_QUEUE if again else settings.PROCESS_QUEUE,
                countdown=after.total_seconds() or None,
                headers=tracing.headers() or None,
                producer=producer,
                retry=True,
                retry_policy=_NO_RETRY,
            )
    except Exception as error:
        _breaker.failed()
        raise QueueUnavailable(type(error).__name__) from error
    _breaker.succeeded()


def depth() -> int:
    """Return how many doorbells wait for a worker; those with a countdown are in a worker's hands already.

    :raises QueueUnavailable: as `ring` does.
    """
    return sum(depths().values())


def depths() -> dict[str, int]:
    """Return the same for each queue by its name.

    :raises QueueUnavailable: as `ring` does.
    """
    try:
        with _producers().acquire(block=True, timeout=settings.QUEUE_TIMEOUT.total_seconds()) as producer:
            return {name: _size(producer.channel, name) for name in (settings.PROCESS_QUEUE, settings.RETRY_QUEUE)}
    except Exception as error:
        raise QueueUnavailable(type(error).__name__) from error


def _size(channel: Any, name: str) -> int:
    return int(channel._size(name)) if channel._has_queue(name) else 0  # an empty list does not exist in Redis


@cache
def _producers() -> Any:
    """Return this process's pool of bounded connections; made on first use, which is after gunicorn has forked."""
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | (_bounds() if settings.QUEUE_TYPE == "redis" else {})
    connection = app.connection_for_write(transport_options=options)
    return pools.Producers(limit=max(settings.WEB_THREADS, settings.WORKER_CONCURRENCY) + 2)[connection]


def _bounds() -> dict[str, Any]:
    """Return the bounds on one publish. Redis on the same network answers in a millisecond.

    `max_retries` has to be said twice: here for kombu's channel, and in the retry policy for its publish.
    """
    timeout_s = settings.QUEUE_TIMEOUT.total_seconds()
    return {
        "socket_connect_timeout": timeout_s / 2,
        "socket_timeout": timeout_s,
        "retry_on_timeout": False,
        "max_retries": 0,
    }
