"""gunicorn's worker, on time: whoever sends slowly, or reads slowly, costs a thread that sleeps and nobody a turn.

gunicorn's own threads wait for a stalled sender without end, so as many of them as there are threads shut everybody
out. Here WEB_THREADS are the requests that are worked on at a time; one that waits for its sender is none of them.
"""

import errno
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Semaphore
from typing import Any

from django.conf import settings
from gunicorn import util
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from leadgateway.logging import get_logger

log = get_logger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SenderSocket(socket.socket):
    """A connection that is read by a deadline, and gives the turn away while it waits."""

    #: When the request that is being read has to be there, by time.monotonic(); None: between requests.
    _deadline: float | None = None
    _turns: Semaphore

    #: The sender waits for a word of ours before it sends the body (RFC 9110, 10.1.1).
    continue_is_due = False

    @contextmanager
    def request(self, turns: Semaphore) -> Iterator[None]:
        """Have the turn, and read one request inside, in WEB_READ_TIMEOUT."""
        self._turns = turns
        with turns:
            self._deadline = time.monotonic() + settings.WEB_READ_TIMEOUT.total_seconds()
            try:
                yield
            finally:
                self._deadline = None

    def setblocking(self, flag: bool, /) -> None:
        """Wait when `flag` is set, but never without end: this bounds a write, too."""
        if self.fileno() >= 0:  # gunicorn asks again when it closes what `handle` has closed
            self.settimeout(settings.WEB_READ_TIMEOUT.total_seconds() if flag else 0.0)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return some bytes, as the socket's own does.

        :raises TimeoutError: the request is not there by its deadline.
        """
        if self._deadline is not None and not self._can_read(0):
            if self.continue_is_due:
                self.sendall(_CONTINUE)
            with self._without_a_turn():
                self._wait(self._deadline - time.monotonic())
        return super().recv(bufsize, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send, as the socket's own does."""
        self.continue_is_due = False
        with self._without_a_turn():
            super().sendall(data, flags)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        """Send a file, as the socket's own does."""
        with self._without_a_turn():
            return super().sendfile(*args, **kwargs)

    def _wait(self, seconds: float) -> None:
        timeout = self.gettimeout()
        if not self._can_read(max(0.0, seconds if timeout is None else min(seconds, timeout))):
            log.info("sender_too_slow")
            # With this number gunicorn closes the connection without a word; any other is a bug to it.
            raise TimeoutError(errno.ECONNRESET, "the request did not come in time")

    def _can_read(self, seconds: float) -> bool:
        with selectors.PollSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    @contextmanager
    def _without_a_turn(self) -> Iterator[None]:
        if self._deadline is None:
            yield
            return
        self._turns.release()
        try:
            yield
        finally:
            self._turns.acquire()


class DeadlineWorker(ThreadWorker):
    """A gthread worker in which only a request that is being worked on takes one of the `threads`."""

    def init_process(self) -> None:
        """Make the turns, and start."""
        self.turns = Semaphore(self.cfg.threads)
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return a pool in which every connection can wait; a thread is made when there is something to read."""
        return ThreadPoolExecutor(max_workers=self.cfg.worker_connections)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection a thread, a new one only when its first bytes are there."""
        if not isinstance(conn.sock, SenderSocket):
            conn.sock = SenderSocket(fileno=conn.sock.detach())
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
        else:
            self._await_first_bytes(conn)

    def _await_first_bytes(self, conn: TConn) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + settings.WEB_READ_TIMEOUT.total_seconds()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def murder_pending(self) -> None:
        """Close what has sent nothing for too long; at the end, as soon as what is kept alive."""
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        super().murder_pending()

    def handle(self, conn: TConn) -> Any:
        """Handle a request in its turn, and say good-bye here: gunicorn would in the thread that accepts."""
        with conn.sock.request(self.turns):
            stays = super().handle(conn)
        if stays is False:
            util.close_graceful(conn.sock)
        return stays

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Say «100 Continue» only when somebody wants the body; gunicorn would before a 401 or 413."""
        if req._expected_100_continue:
            req._expected_100_continue = False
            req.force_close()  # whether the body follows a refusal is the sender's choice: nobody could tell
            conn.sock.continue_is_due = True
        return super().handle_request(req, conn)
