"""The client of the Customer API: one lead, one request, one response. No other module calls the customer.

The timeout covers the whole exchange, see `delivery.deadline_http`.
"""

import functools
import http.client
import json
import os
import re
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from delivery.deadline_http import DeadlineAdapter, time_left, was_idle_connection_closed
from leadgateway import __version__

USER_AGENT = f"lead-gateway/{__version__}"
#: Maximum size of a response body that is read, decoded and stored.
MAX_RESPONSE_BYTES = 64 * 1024
MAX_RETRY_AFTER_CHARACTERS = 100

#: Error code -> the English text for delivery_attempt.error_message, with the error's parameters.
MESSAGES = {
    "http_status": "HTTP {status}",
    "timeout": "timed out after {seconds:g} s",
    "connection_refused": "connection refused",
    "connection_reset": "connection reset",
    "closed_without_response": "connection closed without a response",
    "incomplete_response": "incomplete response",
    "not_http": "not an HTTP response",
    "response_headers_too_long": "response headers are too long",
    "invalid_response_header": "invalid header in the response",
    "unsendable_header": "a request header cannot be sent: check the token",
    "invalid_url": "CUSTOMER_API_URL is not valid",
    "host_not_found": "host name not found",
    "host_lookup_failed": "host name lookup failed",
    "tls": "TLS error: {detail}",
    "network": "{detail}",
    "unexpected": "unexpected error: {detail}",
}

#: Exception -> error code. The first row that matches counts.
_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (http.client.RemoteDisconnected, "closed_without_response"),
    (ConnectionRefusedError, "connection_refused"),
    (ConnectionError, "connection_reset"),
    (http.client.IncompleteRead, "incomplete_response"),
    (http.client.BadStatusLine, "not_http"),
    (http.client.UnknownProtocol, "not_http"),
    (http.client.HTTPException, "response_headers_too_long"),  # LineTooLong, or more than 100 headers
    (urllib3.exceptions.InvalidHeader, "invalid_response_header"),
    (requests.exceptions.InvalidHeader, "unsendable_header"),
    (requests.exceptions.InvalidURL, "invalid_url"),
    (UnicodeError, "unsendable_header"),
)

#: OpenSSL's codes for a valid certificate of another host. Its own message for them quotes the host.
_WRONG_HOST_CODES = (62, 64)

#: A shorter token could be an ordinary word of a response, so it is not redacted.
_MIN_REDACTED_TOKEN = 8

#: A character that PostgreSQL cannot store in a text, and its replacement.
_NUL = ("\x00", "\ufffd")

_WHITE_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class DeliveryError:
    """Why a lead was not delivered: a code of `MESSAGES` with parameters, which never quote URL, token or payload."""

    code: str
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The error as a short English text: "HTTP 503"."""
        return MESSAGES[self.code].format(**self.params)

    def as_json(self) -> dict[str, Any]:
        """Return the object that is stored: `{"code": "timeout", "seconds": 30}`."""
        return {"code": self.code, **self.params}


@dataclass(frozen=True)
class CustomerResponse:
    """The result of one exchange with the customer.

    A 2xx means that the customer accepted the lead, even if the body after it is incomplete, too slow or too long:
    sending the lead again would deliver it twice. The last line of such a body says in square brackets what is missing.
    """

    status: int | None
    """The HTTP status; None: no response arrived."""
    body: str
    """The body as text that the database can store; at most 64 KiB."""
    error: DeliveryError | None
    """None exactly when the status is 2xx."""
    retry_after: str | None
    """The first 100 characters of the Retry-After header."""
    duration_ms: int
    resent: bool = False
    """The customer closed an idle connection when it was used again, and the request was sent once more.

    The customer may have received the request twice, with the same Idempotency-Key.
    """

    @property
    def last_answer(self) -> str:
        """The value of `inbound_lead.last_answer`: the HTTP status, or the error code when there is no status."""
        return str(self.status) if self.error is None or self.status is not None else self.error.code


@dataclass(frozen=True)
class CustomerAPI:
    """The customer's URL, the bearer token ("": none), and the maximum duration of one exchange.

    Threads can share it, and with it the connections that the customer keeps open.
    """

    url: str = field(repr=False)
    token: str = field(repr=False)
    timeout: timedelta
    connections: int = 1
    """The maximum number of idle connections."""
    adapter: DeadlineAdapter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapter", DeadlineAdapter(self.connections))

    def deliver(
        self,
        payload: dict[str, Any],
        *,
        idempotency_key: str,
        correlation_id: str,
        trace_headers: Mapping[str, str] | None = None,
    ) -> CustomerResponse:
        """POST the payload as JSON, on an idle connection if the customer has kept one open.

        Errors of the network, of the customer, of the URL or of the token are part of the result and are not raised.
        Redirects are not followed; proxies and a .netrc of the environment are not used.

        :raises TypeError, ValueError: the payload is not JSON; nothing was sent.
        """
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
            "Idempotency-Key": idempotency_key,
            "X-Correlation-ID": correlation_id,
            **(trace_headers or {}),
        }
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        started = time.monotonic()
        deadline = started + self.timeout.total_seconds()
        status, text, retry_after, error, resent = None, "", None, None, False
        try:
            if check_url(self.url):
                raise requests.exceptions.InvalidURL
            request = _prepared(self.url).copy()
            request.prepare_headers(headers)
            request.prepare_body(body, None)
            # Not a Session: it reads the environment, and the whole body of a redirect even without following it.
            try:
                response = self.adapter.send(request, stream=True, timeout=time_left(deadline))
            except requests.ConnectionError as problem:
                if not was_idle_connection_closed(problem):
                    raise
                resent = True
            if resent:
                response = DeadlineAdapter().send(request, stream=True, timeout=time_left(deadline))
            with response:
                status, text = response.status_code, self._read_body(response)
                retry_after = response.headers.get("Retry-After")
            if not 200 <= status < 300:
                error = DeliveryError("http_status", {"status": status})
        except Exception as exc:  # noqa: BLE001 - the attempt needs a result, whatever the network libraries raise
            status, text, retry_after, error = None, "", None, self._error(exc)
        duration_ms = round((time.monotonic() - started) * 1000)
        if retry_after is not None:
            retry_after = retry_after[:MAX_RETRY_AFTER_CHARACTERS].replace(*_NUL)
        return CustomerResponse(status, text, error, retry_after, duration_ms, resent)

    def _read_body(self, response: requests.Response) -> str:
        """Return at most 64 KiB of the body, without the token. Never raises: the status is known, and it counts."""
        received, note = bytearray(), ""
        try:
            # One more byte than is kept shows whether the body is longer.
            while (left := MAX_RESPONSE_BYTES + 1 - len(received)) > 0:
                piece = response.raw.read1(left, decode_content=False)
                if not piece:
                    break
                received += piece
        except Exception as exc:  # noqa: BLE001 - as in `deliver`
            note = f"\n[response incomplete: {self._error(exc).message}]"
        content, has_more = bytes(received), len(received) > MAX_RESPONSE_BYTES
        if encoding := response.headers.get("Content-Encoding"):
            content, is_cut = _decompress(content, encoding)
            has_more = has_more or is_cut
        if has_more:
            note = "\n[only the first 64 KiB of the response were read]"
        text = content[:MAX_RESPONSE_BYTES].decode("utf-8", "replace").replace(*_NUL)
        if len(self.token) >= _MIN_REDACTED_TOKEN:
            text = text.replace(self.token, "[redacted]")  # the customer can quote our request
        return text + note

    def _error(self, problem: BaseException) -> DeliveryError:
        """Return the error of the deepest known cause. The libraries wrap it in exceptions that quote the URL."""
        for cause in reversed(_causes(problem)):
            if isinstance(cause, TimeoutError) and cause.errno is None:  # with errno it is a timeout of the kernel
                seconds = self.timeout.total_seconds()
                return DeliveryError("timeout", {"seconds": int(seconds) if seconds.is_integer() else seconds})
            if error := _known_error(cause):
                return error
        return DeliveryError("unexpected", {"detail": type(problem).__name__})


@functools.cache
def _prepared(url: str) -> requests.PreparedRequest:
    """Return a request to a URL without headers and body. Its parts are parsed once."""
    return requests.Request("POST", url).prepare()


@functools.cache
def check_url(url: str) -> str | None:
    """Return what is wrong with a CUSTOMER_API_URL, as words that follow its name and never quote it; None: nothing."""
    if not url:
        return "is not set"
    if _WHITE_SPACE_OR_CONTROL.search(url):
        return "contains white space or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has an invalid host or port"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if "@" in parts.netloc:
        return "contains credentials; they belong in CUSTOMER_API_TOKEN"
    if not parts.hostname:
        return "has no host"
    try:
        parts.hostname.encode("idna")
        requests.Request("POST", url).prepare()
    except (requests.RequestException, UnicodeError):
        return "has an invalid host or port"
    return "has an invalid host or port" if port == 0 else None


def _decompress(content: bytes, encoding: str) -> tuple[bytes, bool]:
    """Decompress a body up to the limit, and return whether there is more. We never ask for a compressed response.

    A body that cannot be decompressed is returned unchanged.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content, False
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
    try:
        decompressed = decompressor.decompress(content, MAX_RESPONSE_BYTES)
    except zlib.error:
        return content, False
    return decompressed, bool(decompressor.unconsumed_tail)


# --- errors ----------------------------------------------------------------------------------------------------------


def _causes(problem: BaseException | None) -> list[BaseException]:
    """Return an exception and the exceptions that led to it, the outermost first."""
    causes: list[BaseException] = []
    while problem is not None:
        causes.append(problem)
        problem = problem.__cause__ or problem.__context__
    return causes


def _known_error(cause: BaseException) -> DeliveryError | None:
    if isinstance(cause, socket.gaierror):
        is_unknown = cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        return DeliveryError("host_not_found" if is_unknown else "host_lookup_failed")
    if isinstance(cause, ssl.SSLError):
        return DeliveryError("tls", {"detail": _tls_detail(cause)})
    for kind, code in _CODES:
        if isinstance(cause, kind):
            return DeliveryError(code)
    if isinstance(cause, OSError) and cause.errno:
        return DeliveryError("network", {"detail": os.strerror(cause.errno).lower()})  # "no route to host"
    return None


def _tls_detail(problem: ssl.SSLError) -> str:
    if not isinstance(problem, ssl.SSLCertVerificationError):
        return (problem.reason or "connection broken").replace("_", " ").lower()
    is_wrong_host = problem.verify_code in _WRONG_HOST_CODES
    return f"certificate verify failed ({'for another host' if is_wrong_host else problem.verify_message})"
