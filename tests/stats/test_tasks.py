"""Beat's schedule, and the tasks of statistics and monitoring."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from leadgateway.celery import app
from stats import tasks
from stats.models import HourlyStatistics, MonitoringState
from tests import make


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()

    assert {tick["task"] for tick in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


@pytest.mark.parametrize(
    ("task", "at_least_every"),
    [
        ("check_pipeline", timedelta(minutes=1)),
        ("aggregate_hours", timedelta(hours=1)),
        ("apply_retention", timedelta(days=1)),
        ("clear_sessions", timedelta(days=1)),
    ],
)
def test_the_task_is_scheduled_often_enough(task: str, at_least_every: timedelta) -> None:
    [tick] = [tick for tick in settings.CELERY_BEAT_SCHEDULE.values() if tick["task"] == task]

    assert tick["schedule"] <= at_least_every


@pytest.mark.django_db
def test_expired_sessions_are_deleted() -> None:
    for name, days in (("old", -1), ("new", 1)):
        expires = timezone.now() + timedelta(days=days)
        Session.objects.create(session_key=name, session_data="", expire_date=expires)

    tasks.clear_sessions()

    assert [session.session_key for session in Session.objects.all()] == ["new"]


@pytest.mark.django_db
def test_the_tasks_check_the_pipeline_and_count_hours() -> None:
    make.event(now=timezone.now() - timedelta(hours=3))

    tasks.check_pipeline()
    tasks.aggregate_hours()

    assert MonitoringState.objects.get().checked_at is not None
    assert HourlyStatistics.objects.get().accepted == 1
