"""Heartbeats: each worker, and beat, renews its own row in the database from a thread.

In a thread, so that an unavailable database delays neither a delivery nor a tick.
"""

import atexit
import socket
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from celery.signals import after_task_publish, beat_init, worker_ready, worker_shutdown
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from leadgateway import db
from leadgateway.logging import get_logger
from stats.models import Heartbeat, ProcessKind

log = get_logger(__name__)

#: How often a row is renewed. Beat's row is renewed only if beat has published a task since.
INTERVAL = timedelta(seconds=3)

#: A process without a heartbeat for this long has stopped. Beat may sleep from one tick to the next.
RUNNING_WITHIN = timedelta(seconds=30)
MISSED_TICKS = 3

#: How long a process that stopped unexpectedly is shown.
FORGOTTEN_AFTER = timedelta(days=1)

#: How long one write may take, and how long the process waits for the last one when it ends.
_TIMEOUT = timedelta(seconds=5)

_MAX_NAME_LENGTH = 200

#: When this web process started; None in other processes.
web_started_at: datetime | None = None


class HeartbeatThread(threading.Thread):
    """Renews the row of this process until the process ends, then deletes it.

    :param worked: an event that the process sets whenever it has done its work. If given, the row is renewed only
        after that.
    """

    def __init__(
        self, name: str, kind: ProcessKind, *, interval: timedelta = INTERVAL, worked: threading.Event | None = None
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._row_name = name[:_MAX_NAME_LENGTH]
        self._kind = kind
        self._interval = interval
        self._worked = worked
        self._stopping = threading.Event()
        self._started_at = timezone.now()
        self._is_failing = False

    def run(self) -> None:
        """Renew the row at once, and then in every interval."""
        self._try(_delete_forgotten)
        while True:
            if self._has_worked():
                self._try(self._renew_row)
            if self._stopping.wait(self._interval.total_seconds()):
                break
        self._try(self._delete_row)

    def stop(self, **_: Any) -> None:
        """Delete the row, if the database is available, and end the thread."""
        self._stopping.set()
        self.join(_TIMEOUT.total_seconds())

    def _has_worked(self) -> bool:
        if self._worked is None:
            return True
        has_worked = self._worked.is_set()
        self._worked.clear()
        return has_worked

    def _try(self, write: Callable[[], None]) -> None:
        """Write, and log the first of several errors in a row. The next interval tries again."""
        try:
            with db.deadline(_TIMEOUT):
                write()
        except Error as error:
            if not self._is_failing:
                log.warning("heartbeat_not_written", name=self._row_name, exc_info=error)
            self._is_failing = True
        else:
            if self._is_failing:
                log.info("heartbeat_written_again", name=self._row_name)
            self._is_failing = False
        finally:
            connection.close()  # otherwise the thread would keep a connection of the pool

    def _renew_row(self) -> None:
        row = Heartbeat(name=self._row_name, kind=self._kind, started_at=self._started_at, seen_at=timezone.now())
        Heartbeat.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=["name"], update_fields=["kind", "started_at", "seen_at"]
        )

    def _delete_row(self) -> None:
        """Delete the row unless another process of the same name, such as a successor, has taken it over."""
        Heartbeat.objects.filter(name=self._row_name, started_at=self._started_at).delete()


def _delete_forgotten() -> None:
    Heartbeat.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN_AFTER).delete()


# --- reading ---------------------------------------------------------------------------------------------------------


def recent_processes(*, now: datetime) -> list[Heartbeat]:
    """Return the processes that are running or stopped unexpectedly in the last day, by kind and name."""
    return list(Heartbeat.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER).order_by("kind", "name"))


def is_running(process: Heartbeat, *, now: datetime) -> bool:
    """Return whether the last heartbeat of the process is recent enough."""
    silence = RUNNING_WITHIN
    if process.kind == ProcessKind.BEAT:
        silence = max(silence, MISSED_TICKS * settings.WORKER_POLL_INTERVAL)
    return process.seen_at >= now - silence


def running_since(processes: Iterable[Heartbeat], *, now: datetime) -> datetime | None:
    """Return when the first of the running processes started; None if none is running."""
    return min((process.started_at for process in processes if is_running(process, now=now)), default=None)


# --- Celery's signals ------------------------------------------------------------------------------------------------


@worker_ready.connect
def _start_in_worker(sender: Any, **_: Any) -> None:
    thread = HeartbeatThread(sender.hostname, ProcessKind.WORKER)
    worker_shutdown.connect(thread.stop, weak=False)
    thread.start()


@beat_init.connect
def _start_in_beat(**_: Any) -> None:
    published = threading.Event()
    published.set()  # starting counts as work, so that beat is seen before its first tick
    thread = HeartbeatThread(f"beat@{socket.gethostname()}", ProcessKind.BEAT, worked=published)
    after_task_publish.connect(lambda **_: published.set(), weak=False)
    atexit.register(thread.stop)  # Celery has no signal for the end of beat
    thread.start()
