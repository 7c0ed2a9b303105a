"""The web process: uvicorn's worker for gunicorn, with limits for slow and hostile senders.

uvicorn limits neither the size of a request's head nor the time that a sender takes. Here, a request must be complete
WEB_READ_TIMEOUT after its first bytes, a response must make progress in the same time, and a head has gunicorn's
limits. A connection costs memory only, so stalled senders do not delay others.

Every name of uvicorn and httptools that the project overrides is in this module; a test pins them.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import gunicorn.systemd
import httptools
from django.conf import settings
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from leadgateway.logging import get_logger
from leadgateway.server.body import BodyError, BodyTooFragmented, BodyTooSlow, BodyTruncated, Reception

log = get_logger(__name__)

#: Maximum number of bytes of a request line and of a header, and maximum number of headers.
REQUEST_LINE = 4094
HEADER = 8190
HEADERS = 100
_HEAD = REQUEST_LINE + HEADERS * HEADER

#: A body may come in this many chunks of any size. More chunks must have a mean size of 64 bytes.
_CHUNKS = 10_000
_MEAN_CHUNK = 64

#: Seconds in which a sender may go on sending before its connection is closed. A sender that sends at the moment when
#: its connection is closed would get no response.
_LINGER_S = 2.0

#: Seconds that a thread may hold Python's lock while the event loop waits for it. The default is 0.005.
_SWITCH_INTERVAL_S = 0.0005


class _HeadRefused(Exception):
    """The head of a request is too large or ambiguous."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _LingeringTransport:
    """A transport that closes its own half first. Otherwise, a sender that is still sending would lose the response."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self.write = transport.write
        self.is_closing = transport.is_closing

    def close(self) -> None:
        """Send the end of the response, and close the other half a little later."""
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(_LINGER_S, self._transport.close)


class SenderProtocol(HttpToolsProtocol):
    """A connection with limits on the time and size of its requests."""

    #: The proxies whose X-Forwarded-Proto is believed, from gunicorn's FORWARDED_ALLOW_IPS.
    trusted_proxies: _TrustedHosts

    _reception: Reception
    _deadline: TimerHandle | None = None
    _write_deadline: TimerHandle | None = None
    #: Whether a request has begun and is not complete.
    _is_receiving = False
    _is_in_head = False
    #: Whether nothing more is read from this connection.
    _is_ending = False
    #: Whether the process is stopping.
    _is_stopping = False
    _head_size = 0
    _chunks = 0
    _body_size = 0

    # --- connections and time ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self._believes_proxy = bool(self.client) and self.client[0] in self.trusted_proxies  # type: ignore[index]
        self._lingering = _LingeringTransport(transport, self.loop)
        self._deadline = self._after_timeout(self._request_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        self._stop_deadline()
        if self._write_deadline:
            self._write_deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what was received. Start the time of a request that is not complete."""
        if self._is_ending:
            return
        self._unset_keepalive_if_required()
        if not self._is_receiving:
            self._is_receiving = self._is_in_head = True
        try:
            self._parse(data)
        except (httptools.HttpParserError, _HeadRefused) as error:
            self._refuse(error.__context__ or error)
            return
        if not self._is_receiving:
            self._stop_deadline()
        elif not self._deadline:
            self._deadline = self._after_timeout(self._request_is_late)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for the response when the sender has closed its half."""
        if self._is_receiving and not self._is_in_head:
            self._end_body(BodyTruncated())
        if self._is_idle():
            return False
        self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """Start the time in which the sender must read some of the response."""
        super().pause_writing()
        self._write_deadline = self._after_timeout(self._reader_is_late)

    def resume_writing(self) -> None:
        """Stop the time of `pause_writing`."""
        super().resume_writing()
        if self._write_deadline:
            self._write_deadline.cancel()

    def shutdown(self) -> None:
        """Respond to the current request. Close an idle connection a little later."""
        self._is_stopping = True
        if self.cycle is not None:
            self.cycle.keep_alive = False
        self.loop.call_later(_LINGER_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _after_timeout(self, act: Callable[[], None]) -> TimerHandle:
        return self.loop.call_later(settings.WEB_READ_TIMEOUT.total_seconds(), act)

    def _stop_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _request_is_late(self) -> None:
        if self._is_receiving:  # not a connection on which nothing was sent
            log.info("sender_too_slow")
        if self._is_receiving and not self._is_in_head:
            self._end_body(BodyTooSlow())
        else:
            self.transport.close()

    def _reader_is_late(self) -> None:
        log.info("sender_too_slow")
        self.transport.abort()

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        """Prepare for a request."""
        super().on_message_begin()
        self._is_receiving = self._is_in_head = True
        self._reception = self.scope["state"]["reception"] = Reception()
        self._head_size = self._chunks = self._body_size = 0

    def on_url(self, url: bytes) -> None:
        """Limit the request line, of which the method and the version have at least 13 bytes."""
        super().on_url(url)
        if len(self.url) > REQUEST_LINE - 13:
            raise _HeadRefused(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Limit the headers."""
        super().on_header(name, value)
        if len(self.headers) > HEADERS or len(name) + len(value) > HEADER:
            raise _HeadRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Refuse an ambiguous head. Start the application for any other, but see `_without_upgrade`."""
        names = [name for name, _ in self.headers]
        if names.count(b"host") > 1 or (b"transfer-encoding" in names and self.parser.get_http_version() == "1.0"):
            raise _HeadRefused(HTTPStatus.BAD_REQUEST)
        if self.parser.get_method() == b"CONNECT":
            raise _HeadRefused(HTTPStatus.METHOD_NOT_ALLOWED)
        if self.parser.should_upgrade():
            return
        self._is_in_head = False
        if self._believes_proxy and (b"x-forwarded-proto", b"https") in self.headers:
            self.scope["scheme"] = "https"
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Limit the number of small chunks."""
        self._chunks += 1
        self._body_size += len(body)
        if self._chunks > _CHUNKS + self._body_size // _MEAN_CHUNK:
            raise BodyTooFragmented
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete. After an early response, the connection is idle only now."""
        if self.parser.should_upgrade():
            return
        self._is_receiving = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # --- refused requests ---

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse(self._without_upgrade() + data[upgrade.args[0] :])
        if self._is_in_head:  # a header that has no end does not reach `on_header`
            self._head_size += len(data)
            if self._head_size > _HEAD:
                raise _HeadRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _without_upgrade(self) -> bytes:
        """Return the head without its offer to use another protocol, which a server may ignore (RFC 9110, 7.8).

        httptools would take the body for the other protocol. Java's client makes this offer with every request.
        """
        headers = [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url), *headers, b"", b""])

    def _refuse(self, reason: BaseException) -> None:
        """Refuse what is not valid HTTP. In a body, the application responds."""
        if not self._is_in_head:
            self._end_body(reason if isinstance(reason, BodyError) else BodyTruncated())
        elif not self._is_idle():
            self._is_ending = True
            self.cycle.keep_alive = False
        else:
            status = reason.status if isinstance(reason, _HeadRefused) else HTTPStatus.BAD_REQUEST
            body = json.dumps({"error": status.phrase.lower(), "correlation_id": None})
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            self._is_ending = True
            self._lingering.close()

    def _end_body(self, error: BodyError) -> None:
        """Have the application respond with the error, unless it has responded. Then close the connection."""
        self._is_ending = True
        self._is_receiving = False
        self._stop_deadline()
        if self.cycle.response_complete:
            self.transport.close()
            return
        self._reception.error = error
        self.cycle.transport = self._lingering  # type: ignore[assignment]
        self.cycle.keep_alive = False
        self.cycle.message_event.set()


class WebWorker(UvicornWorker):  # type: ignore[misc]
    """A gunicorn worker process with one event loop."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "uvloop",
        "http": SenderProtocol,
        "ws": "none",
        "lifespan": "on",
        "interface": "asgi3",
        "proxy_headers": False,  # would replace the address of the connection, too
        "server_header": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout - 1  # then gunicorn kills the process
        SenderProtocol.trusted_proxies = _TrustedHosts(self.config.forwarded_allow_ips or [])
        for name, level in (("uvicorn.error", "WARNING"), ("uvicorn.access", "CRITICAL")):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(level)
        self._is_serving = False

    def run(self) -> None:
        """Serve until gunicorn says to stop."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        super().run()

    async def callback_notify(self) -> None:
        """Tell gunicorn that this process is well. The first time, just after the start, stop the old server."""
        await super().callback_notify()
        if not self._is_serving:
            self._is_serving = True
            if self.age >= self.cfg.workers:
                self._stop_old_server()

    def _stop_old_server(self) -> None:
        """Stop the server that started this one on SIGUSR2, once the last process of this one serves.

        A new server that fails to start does not get here, and the old one goes on.
        """
        if old := os.environ.get("GUNICORN_PID"):  # gunicorn removes it when the old server has stopped
            # Without this, systemd would take the end of the old server for the end of the service.
            gunicorn.systemd.sd_notify(f"MAINPID={self.ppid}", self.log)
            with suppress(ProcessLookupError):
                os.kill(int(old), signal.SIGTERM)
