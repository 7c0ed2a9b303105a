"""A demo Customer API: it accepts leads, and fails for certain phone numbers.

Leads are sent by POST to any path, as {"phone": ..., "product": {"name": ...}, "attributes": [...]}. Responses:

    200  {"status": "accepted", "id": "7"}; with "duplicate": true when the Idempotency-Key was accepted before
    400  the body is not a JSON object
    422  phone or product.name is missing

The phone number of a lead can select a failure:

    +49309999400 to 599  the last three digits are the status of every response
    +49309999001         accepts after 2 seconds
    +49309999006         responds 503 twice, then accepts
    +49309999007         responds 429 with Retry-After: 5 once, then accepts
"""

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, cast

PHONE_PREFIX = "+49309999"
MAX_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Behavior:
    """How the customer treats the leads of one phone number.

    status: the status of a failure, None to accept. times: number of requests that fail, None for all of them.
    retry_after: value of the Retry-After header. delay: seconds before the response.
    """

    status: int | None = None
    times: int | None = None
    retry_after: int | None = None
    delay: float = 0.0

    def fails(self, request_number: int) -> bool:
        """Return whether the request fails; a lead's first request has number 1."""
        return self.status is not None and (self.times is None or request_number <= self.times)


BEHAVIORS = {
    f"{PHONE_PREFIX}001": Behavior(delay=2.0),
    f"{PHONE_PREFIX}006": Behavior(status=503, times=2),
    f"{PHONE_PREFIX}007": Behavior(status=429, times=1, retry_after=5),
}


def behavior_for(phone: str) -> Behavior:
    """Return the behavior that a phone number selects."""
    if match := re.fullmatch(re.escape(PHONE_PREFIX) + r"([45][0-9]{2})", phone):
        return Behavior(status=int(match[1]))
    return BEHAVIORS.get(phone, Behavior())


@dataclass(frozen=True)
class Response:
    """A response with a JSON body, sent after `delay` seconds."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


class DemoCustomer(ThreadingTCPServer):
    """The server. It remembers in memory which Idempotency-Keys it has accepted.

    :param port: 0 selects a free port.
    :param log: called with one line for each lead, without personal data.
    :raises OSError: when the address is in use or does not belong to this machine.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, log: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._ids: dict[str, str] = {}
        self._accepted = 0
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Return the URL that leads are sent to."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def receive(self, body: bytes, idempotency_key: str) -> Response:
        """Accept or refuse a lead, and log the result."""
        lead = _read_object(body)
        response = self._respond(lead, idempotency_key)
        self._log(f"{_masked(lead and lead.get('phone'))} {_summary(response)}")
        return response

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore senders that close the connection; print the traceback of any other error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def _respond(self, lead: dict[str, Any] | None, idempotency_key: str) -> Response:
        if lead is None:
            return Response(400, {"error": "the body is not a JSON object"})
        phone, product = lead.get("phone"), lead.get("product")
        required = {"phone": phone, "product.name": product.get("name") if isinstance(product, dict) else None}
        if errors := {
            path: "is required" for path, value in required.items() if not (value and isinstance(value, str))
        }:
            return Response(422, {"errors": errors})
        behavior, key = behavior_for(str(phone)), idempotency_key or str(phone)
        with self._lock:
            self._requests[key] += 1
            if behavior.status and behavior.fails(self._requests[key]):
                headers = {} if behavior.retry_after is None else {"Retry-After": str(behavior.retry_after)}
                return Response(behavior.status, {"error": _reason(behavior.status)}, headers)
            return Response(200, self._accept(idempotency_key), delay=behavior.delay)

    def _accept(self, idempotency_key: str) -> dict[str, Any]:
        if idempotency_key in self._ids:
            return {"status": "accepted", "id": self._ids[idempotency_key], "duplicate": True}
        self._accepted += 1
        if idempotency_key:
            self._ids[idempotency_key] = str(self._accepted)
        return {"status": "accepted", "id": str(self._accepted)}


def _read_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _reason(status: int) -> str:
    return BaseHTTPRequestHandler.responses.get(status, ("error", ""))[0].lower()


def _masked(phone: object) -> str:
    """Return the last three digits of a phone number."""
    return "***" + re.sub(r"[^0-9]", "", phone)[-3:] if isinstance(phone, str) else "***"


def _summary(response: Response) -> str:
    if response.status != 200:
        return f"refused with {response.status}"
    return f"{'duplicate' if 'duplicate' in response.body else 'accepted'} #{response.body['id']}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle connection is kept

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(Response(411, {"error": f"send a Content-Length of at most {MAX_BODY_BYTES}"}))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the sender closed the connection
            return
        response = cast(DemoCustomer, self.server).receive(body, self.headers.get("Idempotency-Key", ""))
        time.sleep(response.delay)
        self._send(response)

    def do_GET(self) -> None:
        self._send(Response(405, {"error": "send leads by POST"}, {"Allow": "POST"}))

    def _send(self, response: Response) -> None:
        body = json.dumps(response.body).encode() + b"\n"
        self.send_response(response.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **response.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: DemoCustomer logs one line for each lead."""
