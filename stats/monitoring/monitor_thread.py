"""Checks the pipeline from any running process, so that stopped workers or a stopped beat are noticed.

Normally beat's task has a worker check the pipeline. In addition every web process, every worker and beat have a
monitor thread that checks it when no other process has done so in time. Beat's thread, of which there is one, also
sends the alerts for an unavailable database, since no incident can be stored then.
"""

import atexit
import threading
from datetime import datetime
from typing import Any

from celery.signals import beat_init, worker_ready, worker_shutdown
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from leadgateway import db
from leadgateway.logging import get_logger
from stats.models import Alert, Incident
from stats.monitoring import alerts, incidents, pipeline_check
from stats.monitoring.checks.pipeline import OPENS_AFTER, IncidentKind

log = get_logger(__name__)


class MonitorThread(threading.Thread):
    """Checks the pipeline when that is overdue, until the process ends."""

    def __init__(self, outage: "DatabaseOutage | None" = None) -> None:
        super().__init__(name="monitor", daemon=True)
        self._outage = outage
        self._stopping = threading.Event()

    def run(self) -> None:
        """Check in every interval, but not at once, because the other processes may be starting, too."""
        while not self._stopping.wait(settings.MONITORING_INTERVAL.total_seconds()):
            self.check_if_overdue(now=timezone.now())

    def stop(self, **_: Any) -> None:
        """End the thread after the check that is running."""
        self._stopping.set()

    def check_if_overdue(self, *, now: datetime) -> None:
        """Check the pipeline if that is overdue. After an error the next interval tries again."""
        try:
            pipeline_check.run_if_due(now=now, after=1.5)
        except db.UNAVAILABLE:
            if self._outage is not None:
                self._outage.record_failure(now=now)
        except Exception as error:  # otherwise the thread would end without notice
            log.error("monitoring_failed", exc_info=error)
        else:
            if self._outage is not None:
                self._outage.record_recovery(now=now)
        finally:
            connection.close()  # otherwise the thread would keep a connection of the pool


class DatabaseOutage:
    """An outage of the database, kept in the memory of one process until it can be stored."""

    def __init__(self) -> None:
        self._failures = 0
        self._incident: Incident | None = None
        self._alerted: list[Alert.Channel] = []

    def record_failure(self, *, now: datetime) -> None:
        """Count a failure. After enough of them, alert the channels that have not been alerted yet."""
        self._failures += 1
        if self._failures < OPENS_AFTER[IncidentKind.DATABASE_UNAVAILABLE]:
            return
        if self._incident is None:
            self._incident = Incident(kind=IncidentKind.DATABASE_UNAVAILABLE, opened_at=now, last_seen_at=now)
            incidents.log_change(self._incident, is_recovery=False)
        for channel in alerts.configured_channels():
            if channel not in self._alerted and alerts.send(channel, [(self._incident, False)], now=now):
                self._alerted.append(channel)

    def record_recovery(self, *, now: datetime) -> None:
        """Store the outage, if there was one, with the alerts of its end, which are sent with the next ones."""
        self._failures = 0
        if self._incident is None:
            return
        try:
            incidents.record_past_incident(
                IncidentKind.DATABASE_UNAVAILABLE,
                opened_at=self._incident.opened_at,
                closed_at=now,
                alerted=self._alerted,
            )
        except Error:
            return  # unavailable again
        self._incident, self._alerted = None, []


def start(outage: DatabaseOutage | None = None) -> MonitorThread:
    """Start the monitor thread of this process."""
    monitor = MonitorThread(outage)
    monitor.start()
    return monitor


@worker_ready.connect
def _start_in_worker(**_: Any) -> None:
    worker_shutdown.connect(start().stop, weak=False)


@beat_init.connect
def _start_in_beat(**_: Any) -> None:
    atexit.register(start(DatabaseOutage()).stop)
