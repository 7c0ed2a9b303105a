"""Limit how long a caller waits for a dependency: a deadline for the database, and a circuit breaker for any.

PostgreSQL enforces its own timeouts on the server. They do not help when the server is frozen or the network drops
packets, so `deadline` is enforced on the client, for every wait of the thread inside it.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
from django.db.utils import InterfaceError, OperationalError, ProgrammingError

#: The database is unavailable or not migrated: respond with 503. DataError and IntegrityError are bugs: 500.
UNAVAILABLE = (OperationalError, InterfaceError, ProgrammingError)

_thread = threading.local()


@dataclass
class Breaker:
    """Fail fast after repeated failures: open for `pause` after `after` failures in a row. Then the next call decides.

    Threads share a breaker without a lock: a race costs at most one more call.
    """

    pause: timedelta
    after: int = 3
    clock: Callable[[], float] = time.monotonic
    _failures: int = field(default=0, init=False)
    _open_until: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether to fail without calling the dependency."""
        return self.clock() < self._open_until

    def failed(self) -> None:
        """Record a failed call."""
        self._failures += 1
        if self._failures >= self.after:
            self._open_until = self.clock() + self.pause.total_seconds()

    def succeeded(self) -> None:
        """Record a successful call."""
        self._failures = 0

    def reset(self) -> None:
        """Close the breaker and forget its failures."""
        self._failures = 0
        self._open_until = 0.0


@contextmanager
def deadline(limit: timedelta) -> Iterator[None]:
    """Limit the total time that this thread waits for PostgreSQL inside the block. SQLite is not affected.

    :raises django.db.OperationalError: from the statement that exceeds the limit. Its transaction is rolled back,
        unless the statement was COMMIT: then the outcome is unknown.
    """
    _thread.ends_at = time.monotonic() + limit.total_seconds()
    try:
        yield
    finally:
        _thread.ends_at = None


def is_time_up() -> bool:
    """Return whether the thread's deadline has passed."""
    ends_at = getattr(_thread, "ends_at", None)
    return ends_at is not None and time.monotonic() >= ends_at


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the thread's deadline passes while the thread waits for it."""

    def wait(self, gen: Generator[Any, Any, Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        ends_at = getattr(_thread, "ends_at", None)
        if ends_at is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, timeout=max(0.0, ends_at - time.monotonic()))
        except psycopg.OperationalError:
            if is_time_up():
                self.close()  # a statement may still be running on it
            raise
