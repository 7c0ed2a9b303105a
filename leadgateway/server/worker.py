"""A gunicorn thread worker that enforces request timeouts. Slow clients do not occupy a processing slot.

gunicorn's own thread worker waits for a stalled client without limit, so that a few of them block every other client.
Here, WEB_THREADS limits the number of requests that are processed at the same time. A request that waits for its
client releases its slot.

Every private name of gunicorn that the project overrides is in this module; a test pins them.
"""

import errno
import json
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
    """A connection whose requests must be read by a deadline. It releases its processing slot while it waits."""

    #: When the current request must have been read, by time.monotonic(). None between requests.
    _deadline: float | None = None
    _slots: Semaphore

    #: The client waits for «100 Continue» before it sends the body (RFC 9110, 10.1.1).
    continue_is_due = False

    @contextmanager
    def request(self, slots: Semaphore) -> Iterator[None]:
        """Take a processing slot, in which one request must be read within WEB_READ_TIMEOUT."""
        self._slots = slots
        with slots:
            self._deadline = time.monotonic() + settings.WEB_READ_TIMEOUT.total_seconds()
            try:
                yield
            finally:
                self._deadline = None

    def setblocking(self, flag: bool, /) -> None:
        """Block when `flag` is set, but with a timeout, which applies to writes, too."""
        if self.fileno() >= 0:  # gunicorn calls this also for a connection that `handle` has closed
            self.settimeout(settings.WEB_READ_TIMEOUT.total_seconds() if flag else 0.0)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as `socket.recv` does.

        :raises TimeoutError: the request has not been received by its deadline.
        """
        if self._deadline is not None and not self._can_read(0):
            if self.continue_is_due:
                self.sendall(_CONTINUE)
            with self._without_slot():
                self._wait(self._deadline - time.monotonic())
        return super().recv(bufsize, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send as `socket.sendall` does."""
        self.continue_is_due = False
        with self._without_slot():
            super().sendall(data, flags)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        """Send a file as `socket.sendfile` does."""
        with self._without_slot():
            return super().sendfile(*args, **kwargs)

    def _wait(self, seconds: float) -> None:
        timeout = self.gettimeout()
        if not self._can_read(max(0.0, seconds if timeout is None else min(seconds, timeout))):
            log.info("sender_too_slow")
            # For this error number gunicorn closes the connection silently. Others it logs as bugs.
            raise TimeoutError(errno.ECONNRESET, "the request was not received in time")

    def _can_read(self, seconds: float) -> bool:
        with selectors.PollSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    @contextmanager
    def _without_slot(self) -> Iterator[None]:
        if self._deadline is None:
            yield
            return
        self._slots.release()
        try:
            yield
        finally:
            self._slots.acquire()


class DeadlineWorker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker in which only a request that is being processed takes one of the `threads`."""

    def init_process(self) -> None:
        """Create the processing slots and start."""
        self.slots = Semaphore(self.cfg.threads)
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return a pool with a thread for every connection. Threads are created as connections send something."""
        return ThreadPoolExecutor(max_workers=self.cfg.worker_connections)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection a thread, once its first bytes have been received."""
        if not isinstance(conn.sock, SenderSocket):
            conn.sock = SenderSocket(fileno=conn.sock.detach())
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
        else:
            self._wait_for_first_bytes(conn)

    def _wait_for_first_bytes(self, conn: TConn) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + settings.WEB_READ_TIMEOUT.total_seconds()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def murder_pending(self) -> None:
        """Close connections that have sent nothing in time. On shutdown, close them as soon as idle keep-alive ones."""
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        super().murder_pending()

    def handle(self, conn: TConn) -> bool | None:
        """Handle a request in its slot, and close the connection here and not in the thread that accepts others."""
        with conn.sock.request(self.slots):
            keep_alive: bool | None = super().handle(conn)
        if keep_alive is False:
            util.close_graceful(conn.sock)
        return keep_alive

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Send «100 Continue» only when the view reads the body. gunicorn would send it before a 401 or 413."""
        if req._expected_100_continue:
            req._expected_100_continue = False
            # After a refusal, the client may or may not send the body, so the connection cannot be reused.
            req.force_close()
            conn.sock.continue_is_due = True
        return super().handle_request(req, conn)


def _write_error(sock: socket.socket, status: int, reason: str, _message: str) -> None:
    """Send the JSON error body for a request that is not valid HTTP and does not reach Django. gunicorn sends HTML."""
    body = json.dumps({"error": reason.lower(), "correlation_id": None})
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


util.write_error = _write_error
