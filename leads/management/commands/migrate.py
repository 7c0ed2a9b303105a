import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.commands import migrate
from django.db import OperationalError, ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import LockNotAvailable

#: While a migration waits for a lock, every later statement on the table waits behind it. Senders do not wait longer.
LOCK_TIMEOUT_MS = 300

#: When a host dies without closing its connections, PostgreSQL would keep their transactions and locks for hours.
IDLE_TRANSACTION_TIMEOUT_S = 60

TRIES = 30
PAUSE_S = 1.0


class Command(migrate.Command):
    """Django's command for PostgreSQL in use.

    It has a short lock timeout. When a table is busy, it tries again a second later. Finally it limits how long a
    transaction of this database may be idle.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        if connection.vendor != "postgresql":
            super().handle(*args, **options)
            return
        for tries_left in reversed(range(TRIES)):
            try:
                with _short_lock_timeout(connection):
                    super().handle(*args, **options)
                if not options["plan"]:
                    self._limit_idle_transactions(connection)
                return
            except OperationalError as error:
                if not tries_left or not isinstance(error.__cause__, LockNotAvailable):
                    raise
            self.stdout.write(self.style.WARNING("\nA table is busy; trying again in a moment."))
            time.sleep(PAUSE_S)

    def _limit_idle_transactions(self, connection: BaseDatabaseWrapper) -> None:
        """Store the limit in the database, where it applies to every later session, also through PgBouncer."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            name = connection.ops.quote_name(cursor.fetchone()[0])
            statement = (
                f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_TIMEOUT_S}s'"
            )
            try:
                cursor.execute(statement)
            except ProgrammingError:
                self.stderr.write("The database has another owner, who should run:")
                self.stderr.write(f"  {statement};")


@contextmanager
def _short_lock_timeout(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    try:
        yield
    finally:
        if connection.is_usable():  # reset the timeout before the connection returns to the pool
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
