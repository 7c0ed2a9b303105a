"""Enqueue leads for the workers, within a bounded time. The task is named, not imported: it is in a layer above."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from kombu import pools

from leadgateway.celery import app
from leadgateway.queue.connection import bounded_connection
from leadgateway.timeouts import Breaker

_NO_RETRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}

_breaker = Breaker(pause=timedelta(seconds=1))


class QueueUnavailable(Exception):
    """The broker did not accept a message, or did not return the length of a queue."""


def enqueue(lead_ids: Sequence[int], *, delay: timedelta = timedelta(), is_retry: bool = False) -> None:
    """Ask the workers to process leads, with one message and within 1.5 times QUEUE_TIMEOUT.

    A message may be lost or delivered twice: the claim in the database and the sweep make both harmless.

    :param delay: time before a worker processes the message.
    :param is_retry: use the retry queue, so that retries do not delay new leads.
    :raises QueueUnavailable: the broker refused the message, timed out, or failed repeatedly a moment ago.
    """
    if _breaker.is_open:
        raise QueueUnavailable("failed repeatedly a moment ago")
    try:
        with _producer() as producer:
            app.send_task(
                "process_lead",
                kwargs={"lead_ids": list(lead_ids)},
                queue=settings.RETRY_QUEUE if is_retry else settings.PROCESS_QUEUE,
                countdown=delay.total_seconds() or None,
                producer=producer,
                retry=True,
                retry_policy=_NO_RETRY,
            )
    except Exception as error:
        _breaker.failed()
        raise QueueUnavailable(type(error).__name__) from error
    _breaker.succeeded()


def depth() -> int:
    """Return the number of messages in both queues, without those with a delay, which a worker already holds.

    :raises QueueUnavailable: as `enqueue` does.
    """
    return sum(depths().values())


def depths() -> dict[str, int]:
    """Return the number of messages in each queue, by its name.

    :raises QueueUnavailable: as `enqueue` does.
    """
    try:
        with _producer() as producer:
            return {name: _size(producer.channel, name) for name in (settings.PROCESS_QUEUE, settings.RETRY_QUEUE)}
    except Exception as error:
        raise QueueUnavailable(type(error).__name__) from error


@contextmanager
def _producer() -> Iterator[Any]:
    """Lend a producer with a connection to the broker.

    After an error its connection is dropped. Closing it properly would wait for an answer of the broker.
    """
    with producers().acquire(block=True, timeout=settings.QUEUE_TIMEOUT.total_seconds()) as producer:
        try:
            yield producer
        except Exception:
            producer.connection.collect()
            raise


def _size(channel: Any, name: str) -> int:
    # RabbitMQ would close the channel if the queue did not exist. The arguments are those that Celery declares it with.
    return int(channel.queue_declare(queue=name, durable=True, auto_delete=False).message_count)


@cache
def producers() -> Any:
    """Return this process's pool of producers, created on first use, which is after gunicorn has forked."""
    connection = bounded_connection(settings.QUEUE_TIMEOUT)
    return pools.Producers(limit=max(settings.WEB_THREADS, settings.WORKER_CONCURRENCY) + 2)[connection]
