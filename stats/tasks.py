"""What has to be done again and again for the sake of reading."""

from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from stats import hourly, totals
from stats.watch.check import check


@shared_task(name="keep_tally", ignore_result=True)
def keep_tally(**_: Any) -> None:
    """Count for the metrics what they need not count anew each time."""
    totals.fold(at=timezone.now())
    totals.count_closed()


@shared_task(name="check_pipeline", ignore_result=True)
def check_pipeline(**_: Any) -> None:
    """Find what is wrong with the pipeline, and tell people."""
    check(at=timezone.now())


@shared_task(name="count_hours", ignore_result=True)
def count_hours(**_: Any) -> None:
    """Count what happened in the hours that are over, those that were missed included."""
    hourly.count_hours(at=timezone.now())


@shared_task(name="clear_sessions", ignore_result=True)
def clear_sessions(**_: Any) -> None:
    """Delete the sessions of the admin that have run out."""
    SessionStore.clear_expired()
