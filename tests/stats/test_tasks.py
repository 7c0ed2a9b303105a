"""What goes by the clock: each tick names a task that there is, and the tasks do what they say."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from leadgateway.celery import app
from stats import tasks
from stats.models import HourlyStatistics, MonitoringState
from tests import make


def test_every_tick_names_a_task_that_workers_know() -> None:
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
def test_it_is_done_often_enough(task: str, at_least_every: timedelta) -> None:
    [tick] = [tick for tick in settings.CELERY_BEAT_SCHEDULE.values() if tick["task"] == task]

    assert tick["schedule"] <= at_least_every


@pytest.mark.django_db
def test_sessions_that_have_run_out_are_deleted() -> None:
    for name, days in (("old", -1), ("new", 1)):
        expires = timezone.now() + timedelta(days=days)
        Session.objects.create(session_key=name, session_data="", expire_date=expires)

    tasks.clear_sessions()

    assert [session.session_key for session in Session.objects.all()] == ["new"]


@pytest.mark.django_db
def test_the_pipeline_is_checked_and_hours_are_counted() -> None:
    make.event(now=timezone.now() - timedelta(hours=3))

    tasks.check_pipeline()
    tasks.aggregate_hours()

    assert MonitoringState.objects.get().checked_at is not None
    assert HourlyStatistics.objects.get().accepted == 1
