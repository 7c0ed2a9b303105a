"""The Customer API over HTTP: one lead, one request, one answer. The only module that speaks to the customer.

The time-out is for the whole exchange. The time-outs of requests and urllib3 start anew with every piece of data that
arrives, so a server that drips bytes could hold a worker for ever. Here the sockets themselves know the deadline:
before every receive and send they set the time that is left. The lookup of the host, the TCP connection and the TLS
handshake share the same time.
"""

import functools
import http.client
import json
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from leadgateway import __version__, tracing
from leads.storable_text import clean_text

USER_AGENT = f"lead-gateway/{__version__}"
#: No more of the customer's answer is read, decoded or kept.
MAX_ANSWER_BYTES = 64 * 1024
MAX_RETRY_AFTER_CHARACTERS = 100

#: What went wrong -> the words support staff read. The first row that fits counts.
_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (http.client.RemoteDisconnected, "connection closed without an answer"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "connection reset"),
    (http.client.IncompleteRead, "incomplete answer"),
    (http.client.BadStatusLine, "not an HTTP answer"),
    (http.client.UnknownProtocol, "not an HTTP answer"),
    (http.client.HTTPException, "headers of the answer are too long"),  # LineTooLong, or more than 100 of them
    (urllib3.exceptions.InvalidHeader, "invalid header in the answer"),
    (requests.exceptions.InvalidHeader, "a header of the request cannot be sent: check the token"),
    (requests.exceptions.InvalidURL, "CUSTOMER_API_URL is not valid"),
    (UnicodeError, "a header of the request cannot be sent: check the token"),
)

#: OpenSSL's codes for a good certificate of another host. Its own words for that would quote the host.
_WRONG_HOST_CODES = (62, 64)


@dataclass(frozen=True)
class CustomerResponse:
    """What one exchange with the customer came to.

    A 2xx means that the customer took the lead, also when the body after it broke off, came too slowly or was too long:
    sending again would send twice. What is missing of a body is said in its last line, in square brackets.
    """

    status: int | None
    """The HTTP status; None when there was no answer."""
    body: str
    """The answer as text the database can hold; of at most 64 KiB."""
    error: str | None
    """None exactly when the status is 2xx, else a short text without URL, token or payload: "HTTP 503"."""
    retry_after: str | None
    """The Retry-After header as sent, its first 100 characters."""
    duration_ms: int


#: A shorter token may be a word of the answer.
_TELLING = 8


@dataclass(frozen=True)
class CustomerAPI:
    """Where the customer takes leads, with which bearer token ("": none), and how long one exchange may last."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    timeout: timedelta

    def deliver(self, payload: dict[str, Any], *, idempotency_key: str, correlation_id: str) -> CustomerResponse:
        """POST the payload as JSON on a connection of its own and say what came of it.

        Never raises for what the network, the customer or a bad URL or token did: that is in the answer. Redirects are
        not followed, and neither proxies nor a .netrc of the environment are looked at.

        :raises TypeError, ValueError: the payload is not JSON (nothing was sent).
        """
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        headers = self._headers(idempotency_key, correlation_id)
        started = time.monotonic()
        try:
            status, text, retry_after = self._exchange(body, headers, started + self.timeout.total_seconds())
            error = None if 200 <= status < 300 else f"HTTP {status}"
        except Exception as exc:  # noqa: BLE001 - whatever the network layers raise, the attempt has an outcome
            status, text, retry_after, error = None, "", None, self._describe(exc)
        return CustomerResponse(
            status, text, error, retry_after, duration_ms=round((time.monotonic() - started) * 1000)
        )

    def _headers(self, idempotency_key: str, correlation_id: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": USER_AGENT,
            "Idempotency-Key": idempotency_key,
            "X-Correlation-ID": correlation_id,
            **tracing.headers(),
        }
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def _exchange(self, body: bytes, headers: dict[str, str], deadline: float) -> tuple[int, str, str | None]:
        """Status, body and Retry-After of the answer."""
        if check_url(self.url):
            raise requests.exceptions.InvalidURL
        request = requests.Request("POST", self.url, headers=headers, data=body).prepare()
        # Not a Session: it reads the environment, and of a redirect it reads the whole body, however long, also when it
        # is told not to follow.
        with _OneConnection(deadline).send(request, stream=True, timeout=self.timeout.total_seconds()) as response:
            return response.status_code, self._read_text(response), _retry_after(response)

    def _read_text(self, response: requests.Response) -> str:
        """Read the body, at most 64 KiB of it. Never raises: the status has been read, and that is what counts."""
        received = bytearray()
        note = ""
        try:
            for piece in _pieces(response.raw):
                received += piece
        except Exception as exc:  # noqa: BLE001 - as above
            note = f"\n[the answer broke off: {self._describe(exc)}]"
        content, has_more = _decompress(bytes(received), response.headers.get("Content-Encoding", ""))
        if has_more or len(received) > MAX_ANSWER_BYTES:
            note = "\n[only the first 64 KiB of the answer were read]"
        return self._without_token(clean_text(content[:MAX_ANSWER_BYTES].decode("utf-8", "replace"))) + note

    def _without_token(self, text: str) -> str:
        """Strike the token out of an answer that quotes our request: answers are stored and shown."""
        return text.replace(self.token, "[redacted]") if len(self.token) >= _TELLING else text

    def _describe(self, problem: BaseException) -> str:
        """Name the deepest cause that there are words for: the layers above wrap it, and quote the URL."""
        for cause in reversed(_chain(problem)):
            if isinstance(cause, TimeoutError) and cause.errno is None:  # with errno: the kernel's own, of the network
                return f"timed out after {self.timeout.total_seconds():g} s"
            if text := _words_for(cause):
                return text
        return f"unexpected error: {type(problem).__name__}"


def check_url(url: str) -> str | None:
    """Say what is wrong with a CUSTOMER_API_URL, in words that follow its name and never quote it; None: nothing."""
    if not url:
        return "is not set"
    if any(character <= " " or character == "\x7f" for character in url):
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
    if port == 0 or not _can_be_sent(url, parts.hostname):
        return "has an invalid host or port"
    return None


def _can_be_sent(url: str, host: str) -> bool:
    try:
        host.encode("idna")
        requests.Request("POST", url).prepare()
    except (requests.RequestException, UnicodeError):
        return False
    return True


def _retry_after(response: requests.Response) -> str | None:
    value = response.headers.get("Retry-After")
    return None if value is None else clean_text(value[:MAX_RETRY_AFTER_CHARACTERS])


# The body of an answer


def _pieces(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes in, one byte beyond the limit at most, to see whether there is more."""
    left = MAX_ANSWER_BYTES + 1
    while left > 0 and (piece := raw.read1(left, decode_content=False)):
        left -= len(piece)
        yield piece


def _decompress(content: bytes, encoding: str) -> tuple[bytes, bool]:
    """Unpack an answer that is compressed although we asked for none, up to the limit; True: there was more.

    What cannot be unpacked stays as it is.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content, False
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
    try:
        unpacked = unpacker.decompress(content, MAX_ANSWER_BYTES)
    except zlib.error:
        return content, False
    return unpacked, bool(unpacker.unconsumed_tail)


# What went wrong, in words


def _chain(problem: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while problem is not None:
        causes.append(problem)
        problem = problem.__cause__ or problem.__context__
    return causes


def _words_for(cause: BaseException) -> str | None:
    if isinstance(cause, socket.gaierror):
        is_unknown = cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        return "host name not found" if is_unknown else "host name lookup failed"
    if isinstance(cause, ssl.SSLError):
        return f"TLS error: {_tls_words(cause)}"
    for kind, text in _ERRORS:
        if isinstance(cause, kind):
            return text
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()  # "no route to host", "too many open files"
    return None


def _tls_words(problem: ssl.SSLError) -> str:
    if not isinstance(problem, ssl.SSLCertVerificationError):
        return (problem.reason or "connection broken").replace("_", " ").lower()
    is_wrong_host = problem.verify_code in _WRONG_HOST_CODES
    return f"certificate verify failed ({'for another host' if is_wrong_host else problem.verify_message})"


# Sockets with a deadline, and their way into requests


class _Socket(socket.socket):
    """A socket whose receives and sends all end at one deadline, of `time.monotonic()`.

    These two methods are all that `http.client` calls.
    """

    deadline: float

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_left(self.deadline))
        super().sendall(*args, **kwargs)


class _TLSSocket(_Socket, ssl.SSLSocket):
    """The same inside TLS, where one call to OpenSSL sends all, within the time-out of the socket."""


class _FinalAnswer(http.client.HTTPResponse):
    """An answer that waits for the final status: the standard library takes 102 and 103 for one."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        while http.HTTPStatus.SWITCHING_PROTOCOLS < status < http.HTTPStatus.OK:
            http.client.parse_headers(self.fp)
            version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, status, reason


class _Connection(HTTPConnection):
    response_class = _FinalAnswer

    def __init__(self, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deadline = deadline

    def _new_conn(self) -> _Socket:
        return _connect(self._dns_host, self.port, self.deadline)


class _TLSConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        # Not urllib3's: that one loads the CA certificates anew for every connection.
        tls = cast(_TLSSocket, _tls_context().wrap_socket(self._new_conn(), server_hostname=self.host))
        tls.deadline = self.deadline
        self.sock = tls
        self.is_verified = True


class _OneConnection(HTTPAdapter):
    """Sends one request over one fresh connection: no idle one that the customer has closed in the meantime."""

    def __init__(self, deadline: float) -> None:
        super().__init__(max_retries=0)
        self.deadline = deadline

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        pool = cast(HTTPConnectionPool, super().get_connection_with_tls_context(*args, **kwargs))
        kind = _TLSConnection if pool.scheme == "https" else _Connection
        pool.ConnectionCls = functools.partial(kind, deadline=self.deadline)  # type: ignore[assignment]
        return pool


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Certificates and host names are verified, against the CAs of requests and those of the machine.

    So a private CA of the customer's can be added to the machine's store, or by SSL_CERT_FILE. Made once: it takes tens
    of milliseconds.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = _TLSSocket
    return context


def _connect(host: str, port: int, deadline: float) -> _Socket:
    """Connect to the first address of the host that answers. Each gets an equal share of the time that is left.

    The time-out left on the socket is for the TLS handshake, which is one call to OpenSSL.

    :raises OSError: of the last address; `socket.gaierror`: there is no address; `TimeoutError`: no time is left.
    """
    problem: OSError | None = None
    addresses = _look_up(host, port, deadline)
    for count, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return _connect_to(address, deadline, _left(deadline) / count)
        except OSError as exc:
            problem = exc
    raise problem or TimeoutError


def _connect_to(address: tuple[Any, ...], deadline: float, seconds: float) -> _Socket:
    family, kind, protocol, _, where = address
    sock = _Socket(family, kind, protocol)
    sock.deadline = deadline
    try:
        sock.settimeout(seconds)
        sock.connect(where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # headers and body leave at once
        sock.settimeout(_left(deadline))
    except BaseException:
        sock.close()
        raise
    return sock


def _look_up(host: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
    """The addresses of a host, in a thread, because the system's resolver knows no time-out of ours.

    A lookup that we no longer wait for ends when the resolver gives up (resolv.conf: some 30 s). Nothing is sent then.
    """
    found: Future[list[tuple[Any, ...]]] = Future()

    def look_up() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as exc:  # noqa: BLE001 - raised again where the result is waited for
            found.set_exception(exc)

    threading.Thread(target=look_up, name="customer-lookup", daemon=True).start()
    return found.result(timeout=_left(deadline))


def _left(deadline: float) -> float:
    """Seconds until the deadline, never 0, which would mean "do not wait" to a socket.

    :raises TimeoutError: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
