"""A Customer API that fails in every way a real one can, and records what it received.

`HostileCustomer.set_mode` selects how leads are answered. A mode is written like a query string, with & between parts:

    status=503          respond with that status; a 2xx books the lead first
    retry_after=7       send Retry-After: 7 with it
    delay=2s            book, wait, then respond (50ms, 2s, 1m30s)
    reset=1             reset the connection before the lead is booked
    reset=after         book the lead, then reset: the sender cannot know the result
    close=1             close the connection without a response
    hang=1              never respond
    garbage=1           respond with bytes that are not HTTP
    garbage=body        book, then respond 200 with a body that is neither JSON nor text
    fail_first=2        fail (503 unless another failure is named) only the first 2 requests of an Idempotency-Key

Without a mode, phone numbers from +49309999400 to 599 get their last three digits as the status, and a share of the
other requests fails at random when `fail_rate` is set. A lead is booked once per Idempotency-Key: a request with a
booked key gets the same response with "duplicate": true.
"""

import json
import os
import random
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self, TypedDict, cast
from urllib.parse import parse_qsl

PHONE_PREFIX = "+49309999"

#: Failures of a random share of the requests. None of them makes the sender wait for its timeout.
RANDOM_MODES = ("status=503", "status=429&retry_after=1", "reset=1", "reset=after")

#: Maximum number of seconds that `stop` waits for open requests to end.
STOP_SECONDS = 1.0

#: Failures that happen after the lead was booked.
_BOOKING = {"", "reset after booking", "garbage body"}

#: The parts of a mode that select a failure, and the failure.
_FAILURES = {
    ("reset", "1"): "reset",
    ("reset", "after"): "reset after booking",
    ("close", "1"): "close",
    ("hang", "1"): "hang",
    ("garbage", "1"): "garbage",
    ("garbage", "body"): "garbage body",
}


# --- modes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """How a request is answered. `delay` is in seconds."""

    failure: str = ""
    status: int = 200
    retry_after: int | None = None
    delay: float = 0.0
    fail_first: int = 0

    @property
    def books(self) -> bool:
        return self.failure in _BOOKING

    @property
    def outcome(self) -> str:
        return f"status {self.status}" if self.failure == "status" else self.failure or "accepted"

    def for_request(self, number: int) -> "Mode":
        """Return the mode of a key's request; the first one has number 1."""
        if not self.fail_first:
            return self
        if number > self.fail_first:
            return Mode(delay=self.delay)
        return self if self.failure else replace(self, failure="status", status=503)


def parse_mode(text: str) -> Mode:
    """Return the mode that a text describes; the module's docstring lists the parts.

    :raises ValueError: for an unknown part, a bad value, or two failures at once.
    """
    mode = Mode()
    for name, value in parse_qsl(text, keep_blank_values=True):
        setting = _parse_part(name, value)
        if "failure" in setting and mode.failure:
            raise ValueError(f"{text!r} has two failures")
        mode = replace(mode, **setting)
    return mode


def _parse_part(name: str, value: str) -> dict[str, Any]:
    if name == "status":
        status = int(value)
        return {"status": status} if 200 <= status < 300 else {"status": status, "failure": "status"}
    if name in ("retry_after", "fail_first"):
        return {name: int(value)}
    if name == "delay":
        from leadgateway.env import parse_duration  # not before the tests have chosen their settings

        return {"delay": parse_duration(value).total_seconds()}
    if (name, value) not in _FAILURES:
        raise ValueError(f"unknown mode {name}={value}")
    return {"failure": _FAILURES[name, value]}


def _mode_of_phone(phone: str | None) -> str:
    match = re.fullmatch(re.escape(PHONE_PREFIX) + r"([45][0-9]{2})", phone or "")
    return f"status={match[1]}" if match else ""


# --- the ledger ------------------------------------------------------------------------------------------------------


class LedgerRecord(TypedDict):
    """A received request.

    `booked`: this request booked the lead. `duplicate`: its Idempotency-Key had been booked before. `id`: the booking
    that it made or repeated. `payload`: its JSON body, None when it was not JSON.
    """

    time: str
    idempotency_key: str | None
    correlation_id: str | None
    phone: str | None
    product: str | None
    outcome: str
    booked: bool
    duplicate: bool
    id: str | None
    payload: Any


# --- the customer ----------------------------------------------------------------------------------------------------


class HostileCustomer:
    """The Customer API on a socket of this process.

        with HostileCustomer() as customer:
            requests.post(customer.url, ...)
            customer.set_mode("status=503")
            assert customer.requests[0]["booked"]

    fail_rate: share of the requests (0 to 1) that fail at random, each in one of the modes `failures`; with the same
    `seed` the n-th request gets the same result. delay: seconds before every response.

    `stop` cuts open connections at once; `start` after it uses the same port again.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        fail_rate: float = 0.0,
        failures: Sequence[str] = RANDOM_MODES,
        seed: int | None = None,
        delay: float = 0.0,
    ) -> None:
        self.port = 0
        self.stopping = threading.Event()
        self._fail_rate = fail_rate
        self._failures = [parse_mode(failure) for failure in failures]
        self._random = random.Random(seed)
        self._delay = delay
        self._mode = ""
        self._lock = threading.Lock()
        self._records: list[LedgerRecord] = []
        self._ids: dict[str, str] = {}
        self._received: Counter[str | None] = Counter()
        self._bookings = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def requests(self) -> list[LedgerRecord]:
        """Return every request received so far, oldest first."""
        with self._lock:
            return list(self._records)

    def set_mode(self, text: str) -> None:
        """Answer every lead in this mode from now on; "" returns to normal.

        :raises ValueError: when the mode is unknown.
        """
        parse_mode(text)
        self._mode = text

    def receive(self, body: bytes, key: str | None, correlation_id: str | None) -> tuple[Mode, bytes]:
        """Record a request, and return how it is answered and the body of the response."""
        payload = _read_json(body)
        phone, product = _text_at(payload, "phone"), _text_at(payload, "product", "name")
        with self._lock:
            self._received[key or phone] += 1
            mode = self._choose_mode(phone).for_request(self._received[key or phone])
            if mode.books and not (phone and product):
                mode = Mode("status", 422, delay=mode.delay)
            known = self._ids.get(key) if key else None
            books = mode.books and known is None
            record = LedgerRecord(
                time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                idempotency_key=key,
                correlation_id=correlation_id,
                phone=phone,
                product=product,
                outcome="duplicate" if known and mode.outcome == "accepted" else mode.outcome,
                booked=books,
                duplicate=known is not None,
                id=self._book(key) if books else known,
                payload=payload,
            )
            self._records.append(record)
        return replace(mode, delay=mode.delay + self._delay), _body(mode, record)

    def _choose_mode(self, phone: str | None) -> Mode:
        if text := self._mode or _mode_of_phone(phone):
            return parse_mode(text)
        return self._random.choice(self._failures) if self._random.random() < self._fail_rate else Mode()

    def _book(self, key: str | None) -> str:
        self._bookings += 1
        if key:
            self._ids[key] = str(self._bookings)
        return str(self._bookings)

    def start(self) -> Self:
        """Listen, and serve in threads of this process."""
        self.stopping.clear()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening, cut every open connection, and wait up to a second for the threads."""
        if self._server is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_connections()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _text_at(payload: Any, *path: str) -> str | None:
    """Return the text at a path of nested objects, None when there is none or it is empty."""
    for name in path:
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) and payload else None


def _body(mode: Mode, record: LedgerRecord) -> bytes:
    if mode.failure == "garbage body":
        return b"\x00\xff\xfe{not JSON, not text\x80\x00"
    body: dict[str, Any] = {"status": "accepted", "id": record["id"]}
    if mode.failure == "status":
        body = {"error": "try again later"}
    elif record["duplicate"]:
        body["duplicate"] = True
    return json.dumps(body).encode() + b"\n"


# --- sockets ---------------------------------------------------------------------------------------------------------


class _Server(ThreadingTCPServer):
    """Handles each connection in a thread, and keeps a list of the open ones so that `cut_connections` can end them."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, customer: HostileCustomer) -> None:
        self.customer = customer
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((customer.host, customer.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def cut_connections(self) -> None:
        with self._changed:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=STOP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The modes make senders close the connection. Any other error is a bug.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        customer = cast(_Server, self.server).customer
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # the sender closed the connection, so nothing was received
            self.close_connection = True
            return
        mode, answer = customer.receive(body, self.headers.get("Idempotency-Key"), self.headers.get("X-Correlation-ID"))
        if mode.delay and customer.stopping.wait(mode.delay):
            self.close_connection = True
            return
        self._give(mode, answer)

    def _give(self, mode: Mode, body: bytes) -> None:
        match mode.failure:
            case "reset" | "reset after booking":
                # SO_LINGER with zero seconds turns the close into a RST. rfile would keep the socket open.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
            case "close":
                pass
            case "hang":
                while self.connection.recv(1024):
                    pass  # ends when the sender gives up or the customer stops
            case "garbage":
                self.wfile.write(b"\x16\x03\x01\x00 this is no HTTP\x00\xff\r\n\r\n")
            case _:
                self._respond(mode, body)
                return
        self.close_connection = True

    def _respond(self, mode: Mode, body: bytes) -> None:
        body = b"" if mode.status in (204, 304) else body
        self.send_response_only(mode.status, "Status")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if mode.retry_after is not None:
            self.send_header("Retry-After", str(mode.retry_after))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the ledger has every request."""
