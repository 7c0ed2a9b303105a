"""A demo Customer API: it takes leads, fails in every way a real one can, and keeps a ledger of what it received.

    POST /any/path      a lead: {"phone": ..., "product": {"name": ...}, "attributes": [...]}
    GET  /_ledger       every request received, oldest first; /_ledger?summary=1 counts them
    GET  /_control      the mode in force; PUT {"mode": "status=503"} sets it, {"mode": ""} lifts it

Answers: 200 {"status": "accepted", "id": "7"}; 401 for a wrong bearer token; 400 for a body that is not JSON; 422
{"errors": {"phone": "..."}} for a missing field. A lead is booked once per Idempotency-Key; a key that was booked
before gets the same answer with "duplicate": true.

Modes, in the query string of the URL or through /_control, joined with &:

    status=503          answer that status; a 2xx books the lead first
    retry_after=7       send Retry-After: 7 with it
    delay=2s            book, wait, then answer (50ms, 2s, 1m30s)
    reset=1             reset the connection before anything is booked
    reset=after         book the lead, then reset: the sender cannot know
    drip=1              book, then send the answer byte by byte, one every 500ms (drip=20ms: one every 20ms)
    close=1             close the connection without an answer
    hang=1              never answer
    redirect=1          307 to /redirected; whoever follows is booked there
    garbage=1           answer with bytes that are not HTTP
    garbage=body        book, then answer 200 with a body that is neither JSON nor text
    fail_first=2        fail (503 unless another failure is named) only the first 2 requests of an Idempotency-Key

The same by telephone number, so that each can be tried with one lead sent through the gateway:

    +49309999400 to 599 the last three digits are the status, always
    +49309999001        delay=2s
    +49309999002        reset=1
    +49309999003        reset=after, the first time: the retry is recognised as a duplicate
    +49309999004        drip=1
    +49309999005        hang=1
    +49309999006        fails twice with 503, then accepts
    +49309999007        429 with Retry-After: 5 once, then accepts
    any other number    accepted

The first of these that says anything decides: /_control, the query string, the number, the random failures of a chaos
run. What it lets through is then checked (401, 400, 422). A mode nobody knows is a 400.
"""

import hmac
import json
import os
import random
import re
import socket
import socketserver
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypedDict, cast
from urllib.parse import parse_qsl, urlsplit

#: Followed by three digits; see the table above. Every such number is a possible German number in E.164 form.
PHONE_PREFIX = "+49309999"
PHONE_MODES = {
    "001": "delay=2s",
    "002": "reset=1",
    "003": "reset=after&fail_first=1",
    "004": "drip=1",
    "005": "hang=1",
    "006": "fail_first=2",
    "007": "status=429&retry_after=5&fail_first=1",
}
#: What a chaos run throws, each as often as the others. Nothing in it makes the sender wait for its time-out.
RANDOM_MODES = ("status=503", "status=429&retry_after=1", "reset=1", "reset=after")

DRIP_PAUSE = 0.5  # seconds per byte: a whole answer outlasts the gateway's default time-out of 30 s
MAX_BODY_BYTES = 1024 * 1024
STOP_SECONDS = 1.0  # how long stop() waits for open requests to notice

_BOOKING = {"", "reset after booking", "drip", "garbage body"}  # the failures that come after the lead was booked
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


# --- Modes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """How one request is answered. `delay` and `pause` (between dripped bytes) are seconds."""

    failure: str = ""
    status: int = 200
    retry_after: int | None = None
    delay: float = 0.0
    pause: float = DRIP_PAUSE
    fail_first: int = 0

    @property
    def books(self) -> bool:
        return self.failure in _BOOKING

    def on_request(self, number: int) -> "Mode":
        """Return what is left of this mode for the `number`-th request (from 1) of one Idempotency-Key."""
        if not self.fail_first:
            return self
        if number > self.fail_first:
            return Mode(delay=self.delay)
        return self if self.failure else replace(self, failure="status", status=503)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `50ms`, `2s` or `1m30s`.

    :raises ValueError: when it is anything else.
    """
    if not re.fullmatch(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+", text):
        raise ValueError(f"{text!r} is not a duration such as 50ms, 2s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", text))


def parse_mode(text: str) -> Mode:
    """Return the mode that a query string describes; the grammar is in the module's docstring.

    :raises ValueError: for an unknown name, a bad value, or two failures at once.
    """
    settings: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _READERS:
            raise ValueError(f"unknown mode {name!r}; known are {', '.join(_READERS)}")
        setting = _READERS[name](value)
        if clash := settings.keys() & setting.keys():
            raise ValueError(f"{name!r} clashes with what was said before: {', '.join(sorted(clash))} is set twice")
        settings |= setting
    return Mode(**settings)


def phone_mode(phone: str | None) -> str:
    """Return the mode that a telephone number asks for, "" for an ordinary number."""
    match = re.fullmatch(re.escape(PHONE_PREFIX) + r"([0-9]{3})", phone or "")
    if not match:
        return ""
    suffix = match[1]
    return f"status={suffix}" if suffix[0] in "45" else PHONE_MODES.get(suffix, "")


def _read_status(value: str) -> dict[str, Any]:
    if not re.fullmatch(r"[2-5][0-9]{2}", value):
        raise ValueError(f"status must be 200 to 599, not {value!r}")
    status = int(value)
    return {"status": status} if status < 300 else {"status": status, "failure": "status"}


def _read_drip(value: str) -> dict[str, Any]:
    return {"failure": "drip", "pause": DRIP_PAUSE if value == "1" else parse_duration(value)}


def _failure(known: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if value not in known:
            raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        return {"failure": known[value]}

    return read


def _number(name: str) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not re.fullmatch(r"[0-9]{1,6}", value):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        return {name: int(value)}

    return read


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "status": _read_status,
    "retry_after": _number("retry_after"),
    "delay": lambda value: {"delay": parse_duration(value)},
    "reset": _failure({"1": "reset", "after": "reset after booking"}),
    "drip": _read_drip,
    "close": _failure({"1": "close"}),
    "hang": _failure({"1": "hang"}),
    "redirect": _failure({"1": "redirect"}),
    "garbage": _failure({"1": "garbage", "body": "garbage body"}),
    "fail_first": _number("fail_first"),
}


# --- Requests and answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Incoming:
    """A request as it came in, before anyone judged it."""

    query: str
    authorization: str
    idempotency_key: str | None
    correlation_id: str | None
    body: bytes


@dataclass(frozen=True)
class Lead:
    """What a body says. `payload` is None when it is not JSON (or the JSON null: neither is a lead)."""

    payload: Any
    is_json: bool
    phone: str | None
    product: str | None

    @classmethod
    def read(cls, body: bytes) -> "Lead":
        try:
            payload = read_json(body)
        except ValueError:
            return cls(None, False, None, None)
        return cls(payload, True, _text_at(payload, "phone"), _text_at(payload, "product", "name"))

    @property
    def errors(self) -> dict[str, str]:
        """What a customer would complain about, by field."""
        required = {"phone": self.phone, "product.name": self.product}
        errors = {name: "is required" for name, value in required.items() if value is None}
        if isinstance(self.payload, dict) and not isinstance(self.payload.get("attributes", []), list):
            errors["attributes"] = "must be a list"
        return errors


@dataclass(frozen=True)
class Answer:
    """What to send. `body` is sent as JSON, or as it is when it is bytes."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, *, close: bool = False) -> bytes:
        """Return the bytes of the HTTP response."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode() + b"\n"
        if self.status in (204, 304):
            body = b""
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **self.headers}
        if close:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + body


@dataclass(frozen=True)
class Reply:
    """An answer and how to give it: plainly, or acting out a failure."""

    answer: Answer
    failure: str = ""
    delay: float = 0.0
    pause: float = DRIP_PAUSE


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON body, strictly: NaN and Infinity are not JSON.

    :raises ValueError: when it is not JSON in UTF-8.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _text_at(payload: Any, *path: str) -> str | None:
    """Return the text at a path of nested objects, None when there is none or it is empty."""
    for name in path:
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) and payload else None


# --- The ledger ---------------------------------------------------------------------------------------------------


class LedgerRecord(TypedDict):
    """One request actually received.

    `booked`: this request booked the lead. `duplicate`: its Idempotency-Key had been booked before. `id`: the booking
    it made or met. `payload`: its JSON body, None when it was not JSON.
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


class Ledger:
    """Every request received, in memory and, when a path is given, in a file of JSON lines.

    A record is in the file before `append` returns, so it survives a kill of the process. Not thread-safe: the
    customer holds its lock.

    :raises ValueError: when the file holds a line that is no record.
    :raises OSError: when the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.records: list[LedgerRecord] = []
        self.ids: dict[str, str] = {}
        self._bookings = 0
        self._received: Counter[str | None] = Counter()
        if path is not None:
            path.touch()
            self._read_back(path)

    def append(self, record: LedgerRecord) -> None:
        if self._path is not None:
            with self._path.open("ab", buffering=0) as file:
                file.write(json.dumps(record).encode() + b"\n")
        self._remember(record)

    def next_id(self) -> str:
        return str(self._bookings + 1)

    def received(self, sender: str | None) -> int:
        """Return how many requests came with an Idempotency-Key or, without one, with a phone number."""
        return self._received[sender]

    def summary(self) -> dict[str, Any]:
        """Count requests, bookings, receipts of keys booked before, distinct keys booked, and each outcome."""
        return {
            "requests": len(self.records),
            "booked": sum(record["booked"] for record in self.records),
            "duplicate_receipts": sum(record["duplicate"] for record in self.records),
            "keys_booked": len(self.ids),
            "outcomes": dict(Counter(record["outcome"] for record in self.records)),
        }

    def _remember(self, record: LedgerRecord) -> None:
        self.records.append(record)
        self._received[record["idempotency_key"] or record["phone"]] += 1
        if record["booked"]:
            self._bookings += 1
            if record["idempotency_key"]:
                self.ids[record["idempotency_key"]] = str(record["id"])

    def _read_back(self, path: Path) -> None:
        content = path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            # A record cut off by a kill or a full disk was never answered; the next one must start on its own line.
            os.truncate(path, complete)
        for number, line in enumerate(content[:complete].splitlines(), start=1):
            try:
                self._remember(json.loads(line))
            except (ValueError, TypeError, KeyError):
                raise ValueError(f"{path}, line {number}: not a ledger record") from None


# --- The customer -------------------------------------------------------------------------------------------------


class DemoCustomer:
    """The demo Customer API on a socket of this process.

        with DemoCustomer(port=0, token="secret") as customer:
            requests.post(customer.url, ...)
            customer.set_mode("status=503")
            assert customer.requests[0]["booked"]

    port: 0 takes a free one; `port` and `url` tell which. token: the bearer every lead must carry, None for any.
    ledger: a file to keep the ledger in, read back at the start. fail_rate: the share of requests (0 to 1) that fail
    at random, each in one of the modes `failures`; the same `seed` gives the n-th request the same fate. delay: seconds
    before every answer. announce: called with one short line per request, without personal data.

    `stop` cuts open connections at once, like a customer going down; `start` after it takes the same port again.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        ledger: str | Path | None = None,
        fail_rate: float = 0.0,
        failures: Sequence[str] = RANDOM_MODES,
        seed: int | None = None,
        delay: float = 0.0,
        mode: str = "",
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
        self.stopping = threading.Event()
        self._token = token
        self._fail_rate = fail_rate
        self._failures = tuple(failures)
        for failure in self._failures:
            parse_mode(failure)  # a mistake is to show now, not with the first lead
        self._random = random.Random(self.seed)  # noqa: S311 - chooses failures, not secrets
        self._delay = delay
        self._announce = announce
        self._lock = threading.Lock()
        self._ledger = Ledger(Path(ledger) if ledger else None)
        self._server: _Server | None = None
        self.set_mode(mode)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def requests(self) -> list[LedgerRecord]:
        """Return every request received so far, oldest first."""
        with self._lock:
            return list(self._ledger.records)

    @property
    def mode(self) -> str:
        return self._mode

    def set_mode(self, text: str) -> None:
        """Answer every lead in this mode from now on; "" returns to normal.

        :raises ValueError: when the mode is not in the grammar; the mode in force then stays.
        """
        parse_mode(text)
        self._mode = text

    def summary(self) -> dict[str, Any]:
        """Return the counts of the ledger; see Ledger.summary."""
        with self._lock:
            return self._ledger.summary()

    def receive(self, incoming: Incoming) -> Reply:
        """Judge a request, write it into the ledger, and return how to answer it."""
        lead = Lead.read(incoming.body)
        with self._lock:
            mode, refusal = self._judge(incoming, lead)
            record = self._record(incoming, lead, mode, refusal)
            self._ledger.append(record)
        self._tell(record)
        delay = mode.delay + self._delay
        if refusal is not None:
            return Reply(refusal, delay=delay)
        return Reply(_answer(mode, record), mode.failure, delay, mode.pause)

    def _judge(self, incoming: Incoming, lead: Lead) -> tuple[Mode, Answer | None]:
        number = self._ledger.received(incoming.idempotency_key or lead.phone) + 1
        try:
            mode = self._choose_mode(incoming.query, lead.phone).on_request(number)
        except ValueError as error:
            return Mode(), Answer(400, {"error": str(error)})
        return mode, self._refusal(incoming, lead) if mode.books else None

    def _choose_mode(self, query: str, phone: str | None) -> Mode:
        text = self._mode or query or phone_mode(phone)
        if not text and self._random.random() < self._fail_rate:
            text = self._random.choice(self._failures)
        return parse_mode(text)

    def _refusal(self, incoming: Incoming, lead: Lead) -> Answer | None:
        if not self._knows(incoming.authorization):
            return Answer(401, {"error": "unauthorized"}, {"WWW-Authenticate": "Bearer"})
        if not lead.is_json:
            return Answer(400, {"error": "the body is not JSON"})
        return Answer(422, {"errors": lead.errors}) if lead.errors else None

    def _record(self, incoming: Incoming, lead: Lead, mode: Mode, refusal: Answer | None) -> LedgerRecord:
        key = incoming.idempotency_key
        known = self._ledger.ids.get(key) if key else None
        booked = mode.books and refusal is None and known is None
        return LedgerRecord(
            time=_now(),
            idempotency_key=key,
            correlation_id=incoming.correlation_id,
            phone=lead.phone,
            product=lead.product,
            outcome=_outcome(mode, refusal, known is not None),
            booked=booked,
            duplicate=known is not None,
            id=self._ledger.next_id() if booked else known,
            payload=lead.payload,
        )

    def _knows(self, authorization: str) -> bool:
        if self._token is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())

    def _tell(self, record: LedgerRecord) -> None:
        if self._announce is not None:
            booking = f" #{record['id']}" if record["id"] else ""
            self._announce(f"{record['time']} {_masked(record['phone'])} {record['outcome']}{booking}")

    def start(self) -> Self:
        """Listen and serve in threads of this process.

        :raises OSError: when the port is taken or the host is not ours.
        """
        self.stopping.clear()
        self._server = _Server(self, (self.host, self.port))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening, cut every open connection and wait up to a second for their threads."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _masked(phone: str | None) -> str:
    return "***" + re.sub(r"[^0-9]", "", phone or "")[-3:]


def _outcome(mode: Mode, refusal: Answer | None, duplicate: bool) -> str:
    if refusal is not None:
        return f"status {refusal.status}"
    if mode.failure == "status":
        return f"status {mode.status}"
    return mode.failure or ("duplicate" if duplicate else "accepted")


def _answer(mode: Mode, record: LedgerRecord) -> Answer:
    headers = {} if mode.retry_after is None else {"Retry-After": str(mode.retry_after)}
    if mode.failure == "status":
        return Answer(mode.status, {"error": _phrase(mode.status).lower()}, headers)
    if mode.failure == "redirect":
        return Answer(307, {"error": "moved"}, {"Location": "/redirected"})
    if mode.failure == "garbage body":
        return Answer(200, b"\x00\xff\xfe{not JSON, not text\x80\x00")
    body: dict[str, Any] = {"status": "accepted", "id": record["id"]}
    if record["duplicate"]:
        body["duplicate"] = True
    return Answer(mode.status, body, headers)


# --- The socket side ----------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    """One thread per connection, and a list of the open ones so that stopping can cut them."""

    request_queue_size = 256

    def __init__(self, customer: DemoCustomer, address: tuple[str, int]) -> None:
        self.customer = customer
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the name service for the host, which can take seconds.
        socketserver.TCPServer.server_bind(self)

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
        # A sender that hangs up is what the modes provoke; anything else is a bug and worth its traceback.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    error_content_type = "application/json"
    error_message_format = '{"error": "%(message)s"}\n'

    @property
    def customer(self) -> DemoCustomer:
        return cast(_Server, self.server).customer

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            return
        if self.path.startswith("/_"):
            self._send(Answer(405, {"error": "leads go to any path that does not start with /_"}, {"Allow": "GET"}))
            return
        reply = self.customer.receive(self._incoming(body))
        if reply.delay and self.customer.stopping.wait(reply.delay):
            self.close_connection = True
            return
        self._give(reply)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/_ledger":
            counted = dict(parse_qsl(url.query)).get("summary") == "1"
            self._send(Answer(200, self.customer.summary() if counted else self.customer.requests))
        elif url.path == "/_control":
            self._send(Answer(200, {"mode": self.customer.mode}))
        else:
            self._send(Answer(405, {"error": "leads are sent by POST"}, {"Allow": "POST"}))

    def do_PUT(self) -> None:
        body = self._read_body()
        if body is None:
            return
        if urlsplit(self.path).path != "/_control":
            self._send(Answer(405, {"error": "only /_control is PUT"}, {"Allow": "POST"}))
            return
        try:
            self.customer.set_mode(_control_mode(body))
        except ValueError as error:
            self._send(Answer(400, {"error": str(error)}))
        else:
            self._send(Answer(200, {"mode": self.customer.mode}))

    def _incoming(self, body: bytes) -> Incoming:
        return Incoming(
            query=urlsplit(self.path).query,
            authorization=self.headers.get("Authorization", ""),
            idempotency_key=self.headers.get("Idempotency-Key") or None,
            correlation_id=self.headers.get("X-Correlation-ID") or None,
            body=body,
        )

    def _read_body(self) -> bytes | None:
        """Return the body; None when there is none to be had, and then the connection ends."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length) or "Transfer-Encoding" in self.headers:
            return self._end(Answer(411, {"error": "send a Content-Length"}))
        if int(length) > MAX_BODY_BYTES:
            return self._end(Answer(413, {"error": "the body is too big"}))
        body = self.rfile.read(int(length))
        return body if len(body) == int(length) else self._end()  # hung up in the middle: nothing was received

    def _end(self, answer: Answer | None = None) -> bytes | None:
        self.close_connection = True
        if answer is not None:
            self._send(answer)
        return None

    def _give(self, reply: Reply) -> None:
        acts = {
            "reset": self._reset,
            "reset after booking": self._reset,
            "close": self._close,
            "hang": self._hang,
            "drip": self._drip,
            "garbage": self._garbage,
        }
        if act := acts.get(reply.failure):
            self.close_connection = True
            act(reply)
        else:
            self._send(reply.answer)

    def _send(self, answer: Answer) -> None:
        self.wfile.write(answer.encode(close=self.close_connection))

    def _reset(self, reply: Reply) -> None:
        # Lingering for zero seconds makes the close a RST. Detached, because rfile would keep the socket open.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def _close(self, reply: Reply) -> None:
        """Say nothing; the connection is closed after this."""

    def _hang(self, reply: Reply) -> None:
        while self.connection.recv(1024):
            pass  # ends when the sender gives up or the customer stops

    def _drip(self, reply: Reply) -> None:
        for byte in reply.answer.encode(close=True):
            self.wfile.write(bytes([byte]))
            if self.customer.stopping.wait(reply.pause):
                return

    def _garbage(self, reply: Reply) -> None:
        self.wfile.write(b"\x16\x03\x01\x00 this is no HTTP\x00\xff\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the ledger's announcement is the one line per request."""


def _control_mode(body: bytes) -> str:
    value = read_json(body)
    if not isinstance(value, dict) or not isinstance(value.get("mode"), str):
        raise ValueError('expected {"mode": "..."}')
    return cast(str, value["mode"])
