"""The sliding window of a worker process: threads run the steps of `delivery.pipeline` for the leads of all messages.

One thread claims and prepares leads, as many as can be sent at once. `size` threads send, each one request at a time.
One thread settles all results that have arrived. So the leads of a backlog share statements and transactions, a single
lead waits for no other, and a slow request delays only its own lead.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

from django.db import connection

from delivery import pipeline
from delivery.configuration import Configuration
from delivery.pipeline import Delivery, Result
from leadgateway import tracing

#: Maximum number of leads that share a transaction.
_MAX_GROUP = 64

#: A thread that has had nothing to do for this long returns its database connection.
_IDLE_S = 1.0


@dataclass(eq=False)
class Job:
    """A lead in the window."""

    lead_id: int
    #: Receives the jobs of a message with which the window has finished.
    finished: "SimpleQueue[list[Job]]"
    #: Headers of the trace that the message belongs to.
    message_headers: tracing.Headers
    trace: tracing.Trace | None = None
    #: When the next attempt is due, if it needs a message.
    due: datetime | None = None
    #: The window has stopped, and the lead was not claimed.
    is_returned: bool = False
    error: Exception | None = None


class Window:
    """Sends at most `size` requests at the same time."""

    def __init__(self, size: int, *, config: Configuration) -> None:
        self._size, self._config, self._is_traced = size, config, tracing.is_on()
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._free = size
        self._is_stopping = False
        self._is_started = False
        self._to_send: SimpleQueue[tuple[Job, Delivery]] = SimpleQueue()
        self._to_settle: SimpleQueue[tuple[Job, Result]] = SimpleQueue()

    def deliver(self, lead_ids: Sequence[int], *, headers: tracing.Headers) -> Iterator[list[Job]]:
        """Deliver the leads of a message. Yield jobs when they are finished, until all are.

        :param headers: headers of the trace that the message belongs to.
        """
        finished: SimpleQueue[list[Job]] = SimpleQueue()
        jobs = [Job(lead_id, finished, headers) for lead_id in dict.fromkeys(lead_ids)]
        with self._changed:
            self._start()
            self._waiting.extend(jobs)
            self._changed.notify()
        left = len(jobs)
        while left:
            group = finished.get()
            left -= len(group)
            yield group

    def stop(self) -> None:
        """Finish the leads that are claimed, and return all others."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            for work in [self._prepare, self._settle, *[self._send] * self._size]:
                threading.Thread(target=work, name=f"window{work.__name__}", daemon=True).start()

    # --- the threads ---

    def _prepare(self) -> None:
        """Claim and prepare leads, and pass on those that may be sent."""
        while True:
            jobs = self._next_jobs()
            if self._is_stopping:
                _finish(jobs, is_returned=True)
                continue
            error: Exception | None = None
            deliveries: list[Delivery] = []
            try:
                deliveries = self._claim_and_prepare(jobs)
            except Exception as problem:  # noqa: BLE001 (the message's task decides)
                error = problem
                connection.close()
            started = {delivery.claim.lead.pk: delivery for delivery in deliveries}
            unsent = []
            for job in jobs:
                # Two messages can ask for the same lead. It is claimed once.
                if delivery := started.pop(job.lead_id, None):
                    self._to_send.put((job, delivery))
                else:
                    unsent.append(job)
            if unsent:
                self._release(len(unsent))
                _finish(unsent, error=error)

    def _next_jobs(self) -> list[Job]:
        """Wait for leads, and return as many as can be sent at once."""
        with self._changed:
            while not self._waiting or not (self._free or self._is_stopping):
                if not self._changed.wait(_IDLE_S):
                    connection.close()
                    self._changed.wait()
            count = len(self._waiting) if self._is_stopping else min(self._free, len(self._waiting), _MAX_GROUP)
            self._free -= count
            return [self._waiting.popleft() for _ in range(count)]

    def _claim_and_prepare(self, jobs: Sequence[Job]) -> list[Delivery]:
        by_lead = {job.lead_id: job for job in jobs}
        if self._is_traced:
            for job in jobs:
                # A message of the sweep has no trace to continue. The correlation id connects the lead's traces.
                job.trace = tracing.begin(
                    "process_lead", "CONSUMER", {tracing.LEAD_ID: job.lead_id}, job.message_headers
                )
        claims = pipeline.claim(list(by_lead), request_timeout=self._config.customer.timeout)
        if self._is_traced:
            for claim in claims:
                if trace := by_lead[claim.lead.pk].trace:
                    trace.note({tracing.CORRELATION_ID: str(claim.lead.correlation_id)})
        return pipeline.prepare(claims, config=self._config) if claims else []

    def _send(self) -> None:
        """Send one lead after the other."""
        while True:
            job, delivery = self._to_send.get()
            try:
                headers = job.trace.headers if job.trace else None
                self._to_settle.put((job, pipeline.send(delivery, config=self._config, trace=headers)))
            except Exception as error:  # noqa: BLE001 (the message's task decides)
                _finish([job], error=error)
            self._release(1)

    def _release(self, count: int) -> None:
        with self._changed:
            self._free += count
            self._changed.notify()

    def _settle(self) -> None:
        """Settle the results that have arrived."""
        while True:
            results = self._next_results()
            jobs = [job for job, _ in results]
            error: Exception | None = None
            due: dict[int, datetime] = {}
            try:
                due = pipeline.settle([result for _, result in results], config=self._config)
            except Exception as problem:  # noqa: BLE001 (the message's task decides)
                error = problem
            for job in jobs:
                job.due = due.get(job.lead_id)
            _finish(jobs, error=error)

    def _next_results(self) -> list[tuple[Job, Result]]:
        """Wait for results, and return those that have arrived."""
        try:
            results = [self._to_settle.get(timeout=_IDLE_S)]
        except Empty:
            connection.close()
            results = [self._to_settle.get()]
        while len(results) < _MAX_GROUP and not self._to_settle.empty():
            results.append(self._to_settle.get())
        return results


def _finish(jobs: Sequence[Job], *, is_returned: bool = False, error: Exception | None = None) -> None:
    """Hand jobs back to the messages that they came with."""
    by_message: dict[int, list[Job]] = defaultdict(list)
    for job in jobs:
        job.is_returned, job.error = is_returned, error
        if job.trace:
            job.trace.end(error=type(error).__name__ if error else None)
        by_message[id(job.finished)].append(job)
    for group in by_message.values():
        group[0].finished.put(group)
