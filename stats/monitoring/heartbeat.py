"""How workers and beat say that they live: each renews its row in the db, from a thread of its own.

A thread, so that a database that is away costs neither a delivery nor a tick.
"""

import atexit
import socket
import threading
from datetime import datetime, timedelta
from typing import Any

from celery.signals import after_task_publish, beat_init, worker_ready, worker_shutdown
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from leadgateway import db
from leadgateway.logging import get_logger
from stats.models import Heartbeat

log = get_logger(__name__)

#: How often a row is renewed; beat's only when it has published a tick since.
EVERY = timedelta(seconds=3)

#: Whoever was not seen for so long is taken for dead. Beat may be asleep from one tick to the next.
ALIVE_WITHIN = timedelta(seconds=30)
TICKS_MISSED = 3

#: Who died without a word is told of for so long.
FORGOTTEN_AFTER = timedelta(days=1)

#: What one write may take, and the wait for the last one when the process ends.
_TIMEOUT = timedelta(seconds=5)

_LONGEST_NAME = 200


class HeartbeatThread(threading.Thread):
    """Renews the row of this process until the process ends; then takes it away.

    :param worked: set whenever the process has done what it is there for, without which the row is not renewed;
        by default being there is enough.
    """

    def __init__(
        self, name: str, kind: Heartbeat.Kind, *, every: timedelta, worked: threading.Event | None = None
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._row = name[:_LONGEST_NAME]
        self._kind = kind
        self._every = every
        self._worked = worked
        self._ended = threading.Event()
        self._started_at = timezone.now()
        self._is_away = False

    def run(self) -> None:
        """Renew the row at once and then again and again."""
        self._surely(_forget_the_gone)
        while True:
            self._beat()
            if self._ended.wait(self._every.total_seconds()):
                break
        self._surely(self._remove)

    def end(self, **_: Any) -> None:
        """Take the row away, if the database is there, and end."""
        self._ended.set()
        self.join(_TIMEOUT.total_seconds())

    def _beat(self) -> None:
        if self._worked is not None:
            if not self._worked.is_set():
                return
            self._worked.clear()
        self._surely(self._renew)

    def _surely(self, write: Any) -> None:
        """Write, and come back whatever the database does; the next turn tries again."""
        try:
            with db.deadline(_TIMEOUT):
                write()
        except Error as error:
            if not self._is_away:
                log.warning("heartbeat_not_written", name=self._row, exc_info=error)
            self._is_away = True
        else:
            if self._is_away:
                log.info("heartbeat_written_again", name=self._row)
            self._is_away = False
        finally:
            connection.close()  # or the thread would keep one of the pool's

    def _renew(self) -> None:
        row = Heartbeat(name=self._row, kind=self._kind, started_at=self._started_at, seen_at=timezone.now())
        Heartbeat.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=["name"], update_fields=["kind", "started_at", "seen_at"]
        )

    def _remove(self) -> None:
        """Take the row away, unless a process by the same name, such as our successor, has taken it over."""
        Heartbeat.objects.filter(name=self._row, started_at=self._started_at).delete()


def _forget_the_gone() -> None:
    Heartbeat.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN_AFTER).delete()


# --- who lives -------------------------------------------------------------------------------------------------------


def known(*, now: datetime) -> list[Heartbeat]:
    """Return the rows of those who live, and of those who died without a word in the last day, by name."""
    return list(Heartbeat.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER).order_by("kind", "name"))


def is_alive(process: Heartbeat, *, now: datetime) -> bool:
    """Tell whether the process was seen lately enough."""
    return process.seen_at >= now - _silence_allowed(process)


def _silence_allowed(process: Heartbeat) -> timedelta:
    if process.kind == Heartbeat.Kind.WORKER:
        return ALIVE_WITHIN
    return max(ALIVE_WITHIN, TICKS_MISSED * settings.WORKER_POLL_INTERVAL)


# --- Celery's signals ------------------------------------------------------------------------------------------------


@worker_ready.connect
def _worker_is_ready(sender: Any, **_: Any) -> None:
    pulse = HeartbeatThread(sender.hostname, Heartbeat.Kind.WORKER, every=EVERY)
    worker_shutdown.connect(pulse.end, weak=False)
    pulse.start()


@beat_init.connect
def _beat_begins(**_: Any) -> None:
    ticked = threading.Event()
    pulse = HeartbeatThread(f"beat@{socket.gethostname()}", Heartbeat.Kind.BEAT, every=EVERY, worked=ticked)
    after_task_publish.connect(lambda **_: ticked.set(), weak=False)
    atexit.register(pulse.end)  # Celery has no signal for the end of beat
    pulse.start()
