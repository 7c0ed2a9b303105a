"""The batch writer: store the leads of concurrent requests together, and enqueue them together.

While one batch is at the database, the next one collects. A request that comes alone waits for no other.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction

from leadgateway import db, queue, tracing
from leadgateway.db.asynchronous import AsyncDatabase
from leadgateway.errors import ServiceUnavailable
from leadgateway.logging import get_logger
from leadgateway.timeouts import Breaker
from leads.models import InboundLead
from leads.webhook.intake import LeadRow, NewLead, Receipt, prepare, store_all, storing

T = TypeVar("T")

log = get_logger(__name__)

#: Maximum size of a batch. The database should need much less time for it than DATABASE_TIMEOUT.
_MAX_LEADS = 64
_MAX_CHARACTERS = 1_000_000

_breaker = Breaker(pause=timedelta(milliseconds=500))


class Writer:
    """Stores and enqueues leads. One for each process and event loop."""

    def __init__(self) -> None:
        self._requests: deque[_Request] = deque()
        self._has_requests = asyncio.Event()
        self._is_stopping = False
        self._database: _Database = _Postgres() if connection.vendor == "postgresql" else _SQLite()
        self._writing: asyncio.Task[None] | None = None
        self._enqueueing: set[asyncio.Task[None]] = set()
        self._queue_thread = ThreadPoolExecutor(1, thread_name_prefix="enqueue")

    async def start(self) -> None:
        """Connect and start to store leads. The database need not be available yet."""
        with suppress(*db.UNAVAILABLE):
            await self._database.connect(ends_at=time.monotonic() + settings.DATABASE_TIMEOUT.total_seconds())
        self._writing = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Store and enqueue the leads that wait, and close the connections. `store` refuses further leads."""
        self._is_stopping = True
        self._has_requests.set()
        if self._writing is not None:
            await self._writing
        await asyncio.gather(*self._enqueueing)
        await self._database.close()
        await asyncio.to_thread(self._queue_thread.shutdown)

    async def store(self, lead: NewLead) -> Receipt:
        """Store a lead and enqueue it, or record that it was received again. It is committed when this returns.

        A caller that is cancelled does not take its lead back.

        :raises ServiceUnavailable: the database or the queue is unavailable. The sender should post the lead again.
        :raises Exception: the database does not accept the lead, which is a bug.
        """
        if self._is_stopping or _breaker.is_open:
            raise ServiceUnavailable("database error")
        request = _Request(prepare(lead, dedup_window=settings.DEDUP_WINDOW))
        self._requests.append(request)
        self._has_requests.set()
        try:
            receipt = await request.result
        except db.UNAVAILABLE as error:
            log.error("database_error", exc_info=error)
            raise ServiceUnavailable("database error") from error
        if request.queue_error:
            structlog.contextvars.bind_contextvars(lead_id=receipt.lead_id)
            log.warning("enqueue_failed", reason=request.queue_error)
            if settings.QUEUE_TYPE != "database":  # which has no queue that the sender could wait for
                tracing.note({tracing.LEAD_ID: receipt.lead_id})
                raise ServiceUnavailable("queue unavailable")
        return receipt

    async def _write(self) -> None:
        """Store one batch after the other, until the writer stops."""
        while await self._has_requests.wait():
            if batch := self._take_batch():
                await self._store(batch)
            elif self._is_stopping:
                return

    def _take_batch(self) -> list["_Request"]:
        batch: list[_Request] = []
        characters = 0
        while self._requests and len(batch) < _MAX_LEADS and characters < _MAX_CHARACTERS:
            request = self._requests.popleft()
            if not request.is_late:
                batch.append(request)
                characters += len(request.row.columns)
        if not self._requests and not self._is_stopping:
            self._has_requests.clear()
        return batch

    async def _store(self, batch: Sequence["_Request"]) -> None:
        """Store a batch. When the database does not accept one of its leads, store the leads one by one."""
        receipts: dict[str, Receipt] = {}
        error: Exception | None = None
        try:
            await self._database.store([request.row for request in batch], receipts, ends_at=batch[-1].ends_at)
        except Exception as caught:  # noqa: BLE001 (every request must be answered)
            error = caught
        stored = [request for request in batch if request.take_receipt(receipts)]
        if new := [request for request in stored if not request.receipt.duplicate]:
            self._start_to_enqueue(new)
        if error is None:
            _breaker.succeeded()
            return
        if isinstance(error, db.UNAVAILABLE):
            _breaker.failed()  # once for the batch: one slow commit must not refuse the posts after it
        for request in [request for request in batch if request not in stored]:
            if isinstance(error, db.UNAVAILABLE):
                request.fail(OperationalError(str(error)).with_traceback(error.__traceback__))
            elif len(batch) == 1:
                request.fail(error)
            elif not request.is_late:
                await self._store([request])

    def _start_to_enqueue(self, requests: Sequence["_Request"]) -> None:
        task = asyncio.create_task(self._enqueue(requests))
        self._enqueueing.add(task)
        task.add_done_callback(self._enqueueing.discard)

    async def _enqueue(self, requests: Sequence["_Request"]) -> None:
        """Enqueue new leads and finish their requests, while the next batch is at the database."""
        # kombu would block the event loop. After the time limit, the thread goes on and leaves the leads to the sweep.
        job = asyncio.get_running_loop().run_in_executor(self._queue_thread, _enqueue, requests)
        # The rest of WEB_ANSWER_TIMEOUT is for the database. One message takes less, several one after the other more.
        limit_s = 1.5 * settings.QUEUE_TIMEOUT.total_seconds()
        try:
            queue_error = await asyncio.wait_for(asyncio.shield(job), limit_s)
        except TimeoutError:
            queue_error = "earlier messages are waiting"
        except Exception as error:  # noqa: BLE001 (every request must be answered)
            for request in requests:
                request.fail(error)
            return
        for request in requests:
            request.finish(queue_error)


class _Request:
    """A request that waits until its lead is stored and enqueued."""

    #: Set when the lead is stored.
    receipt: Receipt
    #: Why the lead was not enqueued.
    queue_error: str | None = None
    is_late = False

    def __init__(self, row: LeadRow) -> None:
        self.row = row
        self.context = copy_context()
        self.result: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        limit_s = settings.DATABASE_TIMEOUT.total_seconds()
        #: By time.monotonic().
        self.ends_at = time.monotonic() + limit_s
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._give_up)

    def take_receipt(self, receipts: Mapping[str, Receipt]) -> bool:
        """Take the receipt of this lead, and return whether there is one. A repetition is finished with it."""
        receipt = receipts.get(self.row.idempotency_key)
        if receipt is None:
            return False
        self._timer.cancel()
        self.receipt = receipt
        if receipt.duplicate:
            self.finish()
        return True

    def finish(self, queue_error: str | None = None) -> None:
        """Return the receipt to the caller, unless it was cancelled or has been told that the request is late."""
        self.queue_error = queue_error
        if not self.result.done():
            self.result.set_result(self.receipt)

    def fail(self, error: Exception) -> None:
        """Raise the error in the caller, unless it was cancelled or has been told that the request is late."""
        self._timer.cancel()
        if not self.result.done():
            self.result.set_exception(error)

    def _give_up(self) -> None:
        self.is_late = True
        self.fail(OperationalError("not stored within the time limit"))


class _Database(Protocol):
    """Where a batch is stored. Times are those of time.monotonic()."""

    async def connect(self, *, ends_at: float) -> None:
        """Connect in advance.

        :raises Exception: one of `db.UNAVAILABLE`.
        """

    async def store(self, rows: Sequence[LeadRow], receipts: dict[str, Receipt], *, ends_at: float) -> None:
        """Store leads, and give each its receipt as soon as it is committed.

        :raises Exception: the leads without a receipt were not stored, or it is not known. `db.UNAVAILABLE` concerns
            all of them.
        """

    async def close(self) -> None:
        """Close the connection."""


class _Postgres:
    """Every statement is a transaction of its own."""

    def __init__(self) -> None:
        self._database = AsyncDatabase()

    async def connect(self, *, ends_at: float) -> None:
        await self._database.connect(ends_at=ends_at)

    async def store(self, rows: Sequence[LeadRow], receipts: dict[str, Receipt], *, ends_at: float) -> None:
        # A lead that is deduplicated is recognized when its INSERT is repeated.
        can_repeat = all(row.payload_hash for row in rows)
        steps = storing(rows, receipts, dedup_window=settings.DEDUP_WINDOW)
        with suppress(StopIteration):
            statement = next(steps)
            while True:
                found = await self._database.execute(*statement, ends_at=ends_at, can_repeat=can_repeat)
                statement = steps.send(found)

    async def close(self) -> None:
        await self._database.close()


class _SQLite:
    """A thread stores each batch in one transaction, with one flush to the disk.

    Each thread has its own connection, so `connection` is only looked up in the thread.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def connect(self, *, ends_at: float) -> None:
        await self._run(lambda: connection.ensure_connection())

    async def store(self, rows: Sequence[LeadRow], receipts: dict[str, Receipt], *, ends_at: float) -> None:
        receipts |= await self._run(partial(store_all, rows, dedup_window=settings.DEDUP_WINDOW))

    async def close(self) -> None:
        await self._run(lambda: connection.close())
        self._thread.shutdown()

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _enqueue(requests: Sequence[_Request]) -> str | None:
    """Enqueue the leads of requests. When the queue is unavailable, leave them to the sweep and return the reason."""
    # When traces are recorded, each lead has a message of its own, which belongs to its trace.
    groups = [[request] for request in requests] if tracing.is_on() else [requests]
    error = None
    for group in groups:
        lead_ids = [request.receipt.lead_id for request in group]
        try:
            group[0].context.run(queue.enqueue, lead_ids)
        except queue.QueueUnavailable as unavailable:
            error = str(unavailable)
            _leave_to_sweep(lead_ids)
    return error


def _leave_to_sweep(lead_ids: Sequence[int]) -> None:
    """Clear `enqueued_at`, so that the next sweep enqueues the leads. Otherwise they wait for REQUEUE_AFTER."""
    try:
        with db.deadline(settings.QUEUE_TIMEOUT / 2), transaction.atomic():
            # In the order of their ids. What has locked a lead is about to process or enqueue it.
            unclaimed = InboundLead.objects.filter(pk__in=lead_ids, claim_token=None).order_by("pk")
            locked = unclaimed.select_for_update(skip_locked=True).values("pk")
            InboundLead.objects.filter(pk__in=locked).update(enqueued_at=None)
    except DatabaseError:
        log.warning("enqueued_at_not_cleared")
    finally:
        connection.close()  # returns it to the pool
