"""Celery tasks that beat runs repeatedly: counters, checks of the pipeline, hourly statistics, expired sessions."""

from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from stats.monitoring import counters, hourly, pipeline_check


@shared_task(name="update_counters", ignore_result=True)
def update_counters(**_: Any) -> None:
    """Update the stored totals of the metrics and of the closed leads."""
    counters.update_totals(now=timezone.now())
    counters.recount_closed_leads(now=timezone.now())


@shared_task(name="check_pipeline", ignore_result=True)
def check_pipeline(**_: Any) -> None:
    """Check the pipeline, update its incidents and send alerts."""
    pipeline_check.run_if_due(now=timezone.now())


@shared_task(name="aggregate_hours", ignore_result=True)
def aggregate_hours(**_: Any) -> None:
    """Add complete hours to the hourly statistics, including hours that were missed."""
    hourly.aggregate_hours(now=timezone.now())


@shared_task(name="clear_sessions", ignore_result=True)
def clear_sessions(**_: Any) -> None:
    """Delete expired sessions of the admin."""
    SessionStore.clear_expired()
