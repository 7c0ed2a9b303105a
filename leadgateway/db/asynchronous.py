"""A connection to PostgreSQL for an event loop. It is replaced when it is lost, and no wait exceeds its limit.

The counterpart for threads is `leadgateway.timeouts.BoundedConnection` with the pool.
"""

import asyncio
import math
import select
import time
from collections.abc import Generator, Sequence
from typing import Any

import psycopg
from django.db import OperationalError, connection

#: Django's and ours: the database is unavailable, or is not migrated.
_UNAVAILABLE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.ProgrammingError)

#: Time between two attempts to connect.
_PAUSE_S = 0.05

Rows = list[tuple[Any, ...]]


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection that is closed when `ends_at` passes while its task waits for it.

    Cancelling the task instead would wait for the server, which may be frozen, to cancel the statement.
    """

    #: By time.monotonic().
    ends_at = math.inf

    async def wait(self, gen: Generator[Any, Any, Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, until `ends_at` at most."""
        try:
            return await super().wait(gen, interval, timeout=max(0.0, self.ends_at - time.monotonic()))
        except psycopg.OperationalError:
            if time.monotonic() >= self.ends_at:
                await self.close()  # a statement may still be running on it
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the connection is closed, or the server has sent something while it was idle: that it closes it."""
        if self.closed:
            return True
        readable = select.poll()
        readable.register(self.pgconn.socket, select.POLLIN)
        return bool(readable.poll(0))


class AsyncDatabase:
    """Runs statements, each in its own transaction, on a connection that is opened when it is needed."""

    def __init__(self) -> None:
        parameters = connection.get_connection_params()
        # Not Django's cursor, which writes the parameters into the statement: it would appear in the server's log.
        parameters.pop("cursor_factory")
        self._parameters = parameters | {"autocommit": True}
        self._connection: BoundedAsyncConnection | None = None

    async def connect(self, *, ends_at: float) -> None:
        """Connect in advance.

        :raises django.db.OperationalError: the database is unavailable.
        """
        try:
            await self._connected(ends_at)
        except _UNAVAILABLE as error:
            raise OperationalError(str(error)) from error

    async def execute(self, statement: str, parameters: Sequence[Any], *, ends_at: float, can_repeat: bool) -> Rows:
        """Run a statement and return its rows. While the database is unavailable, try again until `ends_at`.

        :param ends_at: by time.monotonic().
        :param can_repeat: whether to run the statement again when the connection is lost while it runs. It may have
            been committed.
        :raises django.db.OperationalError: the database is unavailable. The statement may have been committed.
        :raises psycopg.Error: the statement failed for another reason.
        """
        while True:
            may_be_committed = False
            failure: psycopg.Error
            try:
                current = await self._connected(ends_at)
                may_be_committed = True
                cursor = await current.execute(statement, parameters)
                return await cursor.fetchall() if cursor.description else []
            except psycopg.errors.ReadOnlySqlTransaction as error:
                await self.close()  # after a failover, the same address may lead to another server
                failure, may_be_committed = error, False
            except _UNAVAILABLE as error:
                failure = error
            is_connected = self._connection is not None and not self._connection.closed
            if is_connected or (may_be_committed and not can_repeat) or time.monotonic() + _PAUSE_S >= ends_at:
                raise OperationalError(str(failure)) from failure
            await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connected(self, ends_at: float) -> BoundedAsyncConnection:
        if self._connection is None or self._connection.is_lost:
            await self.close()
            self._connection = await self._connect(ends_at)
        self._connection.ends_at = ends_at
        return self._connection

    async def _connect(self, ends_at: float) -> BoundedAsyncConnection:
        try:
            async with asyncio.timeout(ends_at - time.monotonic()):
                opened = await BoundedAsyncConnection.connect(**self._parameters)
        except TimeoutError:
            raise psycopg.OperationalError("not connected within the time limit") from None
        opened.ends_at = ends_at
        # A pooler such as PgBouncer, which gives each transaction another connection, makes up a process id of its own.
        # Prepared statements need a connection of their own.
        cursor = await opened.execute("SELECT pg_backend_pid()")
        is_direct = await cursor.fetchone() == (opened.info.backend_pid,)
        opened.prepare_threshold = 0 if is_direct else None
        return opened
