"""What has to be done again and again for the sake of reading."""

from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from stats.monitoring import counters, hourly
from stats.monitoring.pipeline_check import check


@shared_task(name="update_counters", ignore_result=True)
def update_counters(**_: Any) -> None:
    """Count for the metrics what they need not count anew each time."""
    counters.fold(now=timezone.now())
    counters.count_closed()


@shared_task(name="check_pipeline", ignore_result=True)
def check_pipeline(**_: Any) -> None:
    """Find what is wrong with the pipeline, and tell people."""
    check(now=timezone.now())


@shared_task(name="aggregate_hours", ignore_result=True)
def aggregate_hours(**_: Any) -> None:
    """Count what happened in the hours that are over, those that were missed included."""
    hourly.aggregate_hours(now=timezone.now())


@shared_task(name="clear_sessions", ignore_result=True)
def clear_sessions(**_: Any) -> None:
    """Delete the sessions of the admin that have run out."""
    SessionStore.clear_expired()
