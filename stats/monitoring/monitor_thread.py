"""Sees to it that the pipeline is checked also when beat or all workers are dead: by whoever lives.

Beat's tick has a worker check the pipeline. Every web server process, worker and beat has a monitor besides, a thread
that checks it when nobody has done so for a while. Beat's, of which there is one, also tells people when the database
is away, since then no incident can be written down.
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
from stats.monitoring import alerts, incidents
from stats.monitoring.pipeline_check import THRESHOLDS, check, is_overdue
from stats.monitoring.rules import Kind

log = get_logger(__name__)


class MonitorThread(threading.Thread):
    """Checks the pipeline whenever nobody else does, until the process ends."""

    def __init__(self, outage: "Outage | None" = None) -> None:
        super().__init__(name="monitor", daemon=True)
        self._outage = outage
        self._ended = threading.Event()

    def run(self) -> None:
        """Look again and again; not at once, as the others may just be starting."""
        while not self._ended.wait(settings.MONITORING_INTERVAL.total_seconds()):
            self.look(now=timezone.now())

    def end(self, **_: Any) -> None:
        """End soon, with whatever is being looked at."""
        self._ended.set()

    def look(self, *, now: datetime) -> None:
        """Check the pipeline if that is overdue; whatever goes wrong, the next turn tries again."""
        try:
            if is_overdue(now=now):
                check(now=now)
        except db.UNAVAILABLE:
            if self._outage is not None:
                self._outage.goes_on(now=now)
        except Exception as error:  # a thread that ended would never be missed
            log.error("monitoring_failed", exc_info=error)
        else:
            if self._outage is not None:
                self._outage.is_over(now=now)
        finally:
            connection.close()  # or the thread would keep one of the pool's


class Outage:
    """What is known of an outage of the db, in the memory of one process."""

    def __init__(self) -> None:
        self._checks = 0
        self._incident: Incident | None = None
        self._told: list[Alert.Channel] = []

    def goes_on(self, *, now: datetime) -> None:
        """Note that the database is away; once that is certain, tell everybody who could not be told before."""
        self._checks += 1
        if not THRESHOLDS.opens(Kind.DATABASE_UNAVAILABLE, self._checks):
            return
        if self._incident is None:
            self._incident = Incident(kind=Kind.DATABASE_UNAVAILABLE, opened_at=now, last_seen_at=now)
            incidents.log_change(self._incident, is_over=False)
        for channel in alerts.channels():
            if channel not in self._told and alerts.deliver(channel, [(self._incident, False)], now=now):
                self._told.append(channel)

    def is_over(self, *, now: datetime) -> None:
        """Note that the database is there; an outage is written down, and the others told when that is sent next."""
        self._checks = 0
        if self._incident is None:
            return
        try:
            incidents.write_down(
                Kind.DATABASE_UNAVAILABLE, opened_at=self._incident.opened_at, closed_at=now, told=self._told
            )
        except Error:
            return  # away again
        self._incident, self._told = None, []


def start(outage: Outage | None = None) -> MonitorThread:
    """Start the monitor of this process."""
    monitor = MonitorThread(outage)
    monitor.start()
    return monitor


@worker_ready.connect
def _worker_is_ready(**_: Any) -> None:
    worker_shutdown.connect(start().end, weak=False)


@beat_init.connect
def _beat_begins(**_: Any) -> None:
    atexit.register(start(Outage()).end)
