"""Checks of what moves leads: the queue, the workers, beat's sweep."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from delivery.configuration import limits
from delivery.models import DeliveryControl
from delivery.sweep import BATCH
from leadgateway import queue
from leadgateway.celery import app
from leadgateway.dependencies import broker, queue_name, queue_problem, redis_client
from leads.models import InboundLead, LeadStatus
from stats.monitoring.doctor.finding import Finding, fail, ok, warn
from stats.text.delivery_control import obstacle

_OLDEST_REDIS = 6
_SLOW_MS = 50.0

#: A due lead that no worker has taken for so long says that workers are missing or too few.
_LONG_WAIT = timedelta(minutes=1)

#: How long workers have to answer a ping.
_PING_S = 1.5


def broker_fitness() -> Iterator[Finding]:
    """Reach the queue, and see whether it keeps what it is given."""
    if problem := queue_problem():
        yield fail("queue", f"{queue_name()}: {problem}", "Until it is back the webhook answers 503; leads are kept.")
        return
    if settings.QUEUE_TYPE == "redis":
        yield from _redis()
    else:
        yield ok("queue", queue_name())
    yield _depth()


def _redis() -> Iterator[Finding]:
    with broker() as connected:
        client = redis_client(connected)
        started = time.perf_counter()
        client.ping()
        latency = (time.perf_counter() - started) * 1000
        info: dict[str, Any] = client.info()
    found = f"{queue_name()}, version {info['redis_version']}, {latency:.1f} ms"
    if int(str(info["redis_version"]).partition(".")[0]) < _OLDEST_REDIS:
        yield fail("queue", found, "Redis 6 or newer is needed.")
    elif latency > _SLOW_MS:
        yield warn("queue", found, "A webhook rings within 500 ms: bring Redis nearer.")
    else:
        yield ok("queue", found)
    yield _eviction(info)
    yield _persistence(info)


def _eviction(info: dict[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        return warn(
            "redis memory", f"maxmemory-policy {policy}", "Set noeviction: Redis may drop the queue when it is full."
        )
    return ok("redis memory", "maxmemory-policy noeviction")


def _persistence(info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        advice = "Set appendonly yes: otherwise the leads queued when Redis restarts wait for the sweep."
        return warn("redis persistence", "appendonly off", advice)
    return ok("redis persistence", "appendonly on")


def _depth() -> Finding:
    waiting = queue.depth()
    if waiting > BATCH:
        return warn("queue depth", f"{waiting} leads wait", "More workers, or a higher WORKER_CONCURRENCY.")
    return ok("queue depth", f"{waiting} leads wait")


def workers() -> Iterator[Finding]:
    """Ask the workers whether they are there; without Redis they cannot be asked, only watched."""
    if settings.QUEUE_TYPE == "redis":
        yield _answering()
    yield _waiting(timezone.now())


def _answering() -> Finding:
    if queue_problem():
        return fail("workers", "cannot be asked while the queue is away", "Mend the queue first.")
    with broker() as connected:
        answers = app.control.inspect(timeout=_PING_S, connection=connected).ping() or {}
    if not answers:
        return fail("workers", "none answers", "Start one: the line «worker» of the Procfile.")
    return ok("workers", f"{len(answers)}: {', '.join(sorted(answers))}")


def _waiting(now: datetime) -> Finding:
    due = InboundLead.objects.due(now).exclude(enqueued_at=None).order_by("next_attempt_at")
    oldest = due.values_list("next_attempt_at", flat=True).first()
    if oldest is not None and now - oldest > _LONG_WAIT:
        advice = "Is a worker running, and are there enough of them? manage.py requeue_stuck rings again."
        return warn("waiting leads", f"one waits for {_age(now, oldest)}, no worker takes it", advice)
    return ok("waiting leads", "none waits long for a worker")


def way_out() -> Iterator[Finding]:
    """See whether anything keeps leads from going out: an operator, or the breaker."""
    now, gate = timezone.now(), DeliveryControl.objects.current()
    if not (why := obstacle(gate, now=now)):
        yield ok("way out", "open")
        return
    found = f"{why} {InboundLead.objects.due(now).count()} leads wait."
    if gate.paused_at is not None:
        yield warn("way out", found, "manage.py resume_delivery lets them out.")
    else:
        yield fail("way out", found, "Ask the customer. When it is back everything follows by itself.")


def beat() -> Iterator[Finding]:
    """See whether the sweep runs, by what it would have rung for."""
    now, timeout = timezone.now(), 3 * settings.WORKER_POLL_INTERVAL
    due = InboundLead.objects.due(now).filter(enqueued_at=None).order_by("next_attempt_at")
    if DeliveryControl.objects.current().is_blocked or limits().exist:
        due = due.filter(status=LeadStatus.RECEIVED)  # the others may wait for the gate
    oldest = due.values_list("next_attempt_at", flat=True).first()
    if oldest is not None and now - oldest > timeout:
        advice = "Is beat running, and a worker? The lines «beat» and «worker» of the Procfile."
        yield warn("sweep", f"has not rung for a lead that is due for {_age(now, oldest)}", advice)
    else:
        yield ok("sweep", "has left nothing lying")


def _age(now: datetime, then: datetime) -> str:
    return str(timedelta(seconds=round((now - then).total_seconds())))
