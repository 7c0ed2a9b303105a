"""A database that cannot hold a request: connections whose waits end when the caller's time is up.

PostgreSQL's own time-outs are kept by the server, which is of no use when the server is frozen or the network
swallows packets. `deadline` is kept on this side, for every wait of the thread inside it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from django.db.utils import InterfaceError, OperationalError, ProgrammingError

#: The database is away, or not ready for us: the caller answers 503. A DataError or IntegrityError would be a bug: 500.
UNAVAILABLE = (OperationalError, InterfaceError, ProgrammingError)

_thread = threading.local()


@contextmanager
def deadline(limit: timedelta) -> Iterator[None]:
    """Let this thread wait for PostgreSQL no longer than `limit` in all; SQLite is not affected.

    :raises django.db.OperationalError: from the statement that ran out of time. Its transaction is not committed,
        unless the statement was the COMMIT itself: then it may be either.
    """
    _thread.ends_at = time.monotonic() + limit.total_seconds()
    try:
        yield
    finally:
        _thread.ends_at = None


def is_time_up() -> bool:
    """Tell whether this thread is past its deadline."""
    ends_at = getattr(_thread, "ends_at", None)
    return ends_at is not None and time.monotonic() >= ends_at


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that gives up, and is thrown away, when the thread's deadline passes while it waits."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        ends_at = getattr(_thread, "ends_at", None)
        if ends_at is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, timeout=max(0.0, ends_at - time.monotonic()))
        except psycopg.OperationalError:
            if is_time_up():
                self.close()  # a statement may still be running on it
            raise
