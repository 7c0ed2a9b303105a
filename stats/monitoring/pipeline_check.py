"""The check of the pipeline: figures, judgement, incidents, alerts. Whoever comes first does it, one at a time."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

from leadgateway import db
from stats.models import MonitoringState
from stats.monitoring import alerts, incidents, rules
from stats.monitoring.snapshot import take_snapshot

THRESHOLDS = rules.Thresholds()

#: What one step may wait for the database.
_TIMEOUT = timedelta(seconds=10)


def check(*, now: datetime) -> bool:
    """Check the pipeline, unless somebody has just done so; tell whether.

    :raises django.db.Error: the database is away.
    """
    with db.deadline(_TIMEOUT):
        if not _take_turn(now, after=0.8 * settings.MONITORING_INTERVAL):
            return False
        results = rules.judge(take_snapshot(now=now, thresholds=THRESHOLDS), THRESHOLDS)
        incidents.take_in(results, now=now, thresholds=THRESHOLDS, channels=alerts.channels())
    alerts.send_due(now=now)
    return True


def is_overdue(*, now: datetime) -> bool:
    """Tell whether nobody has checked the pipeline when somebody should have.

    :raises django.db.Error: the database is away.
    """
    with db.deadline(_TIMEOUT):
        return not MonitoringState.objects.filter(
            pk=1, checked_at__gt=now - 1.5 * settings.MONITORING_INTERVAL
        ).exists()


def _take_turn(now: datetime, *, after: timedelta) -> bool:
    """Take the right to check; a little less than the interval after the last check, as ticks are not exact."""
    MonitoringState.objects.get_or_create(pk=1)
    due = Q(checked_at=None) | Q(checked_at__lte=now - after)
    return MonitoringState.objects.filter(due, pk=1).update(checked_at=now) == 1
