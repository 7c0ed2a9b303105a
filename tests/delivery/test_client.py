import gc
import gzip
import http.client
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from delivery.client import MAX_RESPONSE_BYTES, CustomerAPI, CustomerResponse, check_url
from delivery.deadline_http import DeadlineAdapter, tls_context
from leadgateway import __version__
from tests.delivery.wire import (
    Behaviour,
    Customer,
    answering,
    black_hole,
    dripping,
    over_tls,
    read_request,
    refused_port,
    reset,
)
from tests.processes import wait_until

TOKEN = "token-that-must-stay-secret"
PAYLOAD = {"phone": "+4915112345678", "product": {"name": "solar"}, "attributes": [{"name": "Straße", "value": "Süd"}]}
#: Far more than the buffers of both sockets hold.
BIG_PAYLOAD = {"phone": "x" * 8_000_000}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = timedelta(seconds=1)
INCOMPLETE = "\n[response incomplete: incomplete response]"
CUT = "\n[only the first 64 KiB of the response were read]"


def deliver(
    url: str, *, payload: dict[str, Any] = PAYLOAD, timeout: timedelta = timedelta(seconds=5), token: str = TOKEN
) -> CustomerResponse:
    api = CustomerAPI(url=url, token=token, timeout=timeout)
    return api.deliver(payload, idempotency_key="lead-7", correlation_id="c0ffee")


def message(response: CustomerResponse) -> str | None:
    return response.error.message if response.error else None


def outcome(response: CustomerResponse) -> tuple[int | None, str | None]:
    return response.status, message(response)


def deliver_to(behave: Behaviour, **kwargs: Any) -> CustomerResponse:
    with Customer(behave) as customer:
        return deliver(customer.url, **kwargs)


def deliver_in_time(url: str, *, payload: dict[str, Any] = PAYLOAD) -> CustomerResponse:
    """Deliver with a timeout of one second, and assert that an endless exchange ended."""
    response = deliver(url, payload=payload, timeout=SHORT)
    assert response.duration_ms < 10_000
    return response


def recording(heads: list[list[str]]) -> Behaviour:
    """Accept every request, and append its request line and headers to `heads`."""

    def behave(connection: socket.socket) -> None:
        heads.append(read_request(connection)[0])
        connection.sendall(OK)

    return behave


def resolve_to(monkeypatch: pytest.MonkeyPatch, look_up: Callable[[str, int], list[tuple[str, int]]]) -> None:
    """Replace the DNS, which a test cannot run for real."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in look_up(host, port)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# Arbitrary responses


PIECES_OF_A_RESPONSE = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2 ", b"ICY ", b"200 OK", b"503", b"100 Continue"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b" folded\r\n", b"\xff\x00: \xfe\r\n", b"x" * 300),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffff\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Retry-After: 3\r\n", b"Connection: keep-alive\r\n"),
]
ANSWERS = st.lists(st.sampled_from(PIECES_OF_A_RESPONSE) | st.binary(max_size=8), max_size=10).map(b"".join)
BODIES = st.binary(max_size=200) | st.binary(max_size=200).map(gzip.compress) | st.just(b"\xc3\xa4" * 40_000)


@given(ANSWERS)
def test_any_bytes_give_a_response(sent: bytes) -> None:
    response = deliver_to(answering(sent))

    assert (response.error is None) is (response.status is not None and 200 <= response.status < 300)
    assert_storable(response)
    assert TOKEN not in f"{message(response)}{response.body}"


@given(st.sampled_from([b"identity", b"gzip", b"deflate", b"br"]), BODIES)
def test_any_body_is_stored_as_text_of_limited_length(encoding: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 422 X\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))

    response = deliver_to(answering(head + body))

    assert outcome(response) == (422, "HTTP 422")
    assert_storable(response)


def assert_storable(response: CustomerResponse) -> None:
    text = f"{response.body}{message(response)}{response.retry_after}"
    assert "\0" not in text
    assert text.encode()  # no lone surrogates
    # Each byte that is no UTF-8 becomes a sign of three.
    assert len(response.body) <= MAX_RESPONSE_BYTES + 100


# What is sent


def test_the_request_is_exactly_as_specified() -> None:
    seen: list[tuple[list[str], bytes]] = []

    def behave(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    with Customer(behave) as customer:
        response = deliver(customer.url)
    ((head, body),) = seen
    assert head[0] == "POST /lead/receive/ HTTP/1.1"
    assert sorted(head[1:]) == sorted(
        [
            f"Host: 127.0.0.1:{customer.port}",
            f"Authorization: Bearer {TOKEN}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Idempotency-Key: lead-7",
            "X-Correlation-ID: c0ffee",
            f"User-Agent: lead-gateway/{__version__}",
            "Accept: application/json",
            "Accept-Encoding: identity",
        ]
    )
    assert body == json.dumps(PAYLOAD, ensure_ascii=False).encode()
    assert (response.status, response.body, message(response), response.retry_after) == (200, "ok", None, None)


def test_without_a_token_there_is_no_authorization_header() -> None:
    heads: list[list[str]] = []

    assert deliver_to(recording(heads), token="").status == 200
    assert not [line for line in heads[0] if line.lower().startswith("authorization")]


def test_proxies_and_netrc_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heads: list[list[str]] = []
    with Customer(recording(heads)) as customer, Customer(answering(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        # requests alone would use both.
        assert requests.utils.get_environ_proxies(customer.url)
        assert requests.utils.get_netrc_auth(customer.url)
        assert deliver(customer.url).status == 200
    assert f"Authorization: Bearer {TOKEN}" in heads[0]
    assert proxy.connections == []


def test_each_request_has_its_own_connection() -> None:
    def behave(connection: socket.socket) -> None:
        while read_request(connection)[0]:
            connection.sendall(OK)

    with Customer(behave) as customer:
        for _ in range(3):
            assert deliver(customer.url).status == 200
    assert len(customer.connections) == 3


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_a_payload_that_is_not_json_raises_and_nothing_is_sent(payload: dict[str, Any]) -> None:
    with Customer(answering(OK)) as customer, pytest.raises((ValueError, TypeError)):
        deliver(customer.url, payload=payload)
    assert customer.connections == []


# Responses


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((200, None), (204, None), (299, None)),
        *((101, "HTTP 101"), (300, "HTTP 300"), (404, "HTTP 404"), (503, "HTTP 503"), (999, "HTTP 999")),
    ],
)
def test_only_a_2xx_has_no_error(status: int, error: str | None) -> None:
    response = deliver_to(answering(b"HTTP/1.1 %d Reason\r\nContent-Length: 0\r\n\r\n" % status))
    assert (response.status, message(response), response.body) == (status, error, "")


@pytest.mark.parametrize("interim", [100, 103])
def test_an_interim_status_is_skipped(interim: int) -> None:
    head = b"HTTP/1.1 %d Wait\r\nLink: </x>\r\n\r\n" % interim
    response = deliver_to(answering(head * 3 + b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"))
    assert (response.status, response.body) == (201, "ok")


@pytest.mark.parametrize("status", [302, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Customer(answering(OK)) as elsewhere:
        location = elsewhere.url.encode()
        redirect = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 4\r\n\r\ngone" % (status, location)
        with Customer(answering(redirect)) as customer:
            response = deliver(customer.url)
    assert (response.status, message(response), response.body) == (status, f"HTTP {status}", "gone")
    assert len(customer.connections) == 1
    assert elsewhere.connections == []


@pytest.mark.parametrize(
    ("header", "retry_after"),
    [
        (b"Retry-After: 120\r\n", "120"),
        (b"retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "Fri, 31 Dec 1999 23:59:59 GMT"),
        (b"Retry-After: a\0b\r\n", "a\ufffdb"),
        (b"Retry-After: " + b"9" * 5000 + b"\r\n", "9" * 100),
        (b"", None),
    ],
)
def test_retry_after_is_returned_as_sent_up_to_its_limit(header: bytes, retry_after: str | None) -> None:
    response = deliver_to(answering(b"HTTP/1.1 503 Busy\r\n" + header + b"Content-Length: 0\r\n\r\n"))
    assert (response.status, response.retry_after) == (503, retry_after)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("Größe".encode(), "Größe"),
        ("Größe".encode("latin-1"), "Gr\ufffd\ufffde"),
        (b"a\0b", "a\ufffdb"),
    ],
)
def test_the_body_is_text_that_the_database_can_store(sent: bytes, text: str) -> None:
    response = deliver_to(answering(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(sent), sent)))
    assert response.body == text


@pytest.mark.parametrize(
    ("token", "stored"),
    [("a-token-of-the-customers", "Authorization: Bearer [redacted]"), ("Bear", "Authorization: Bearer Bear")],
)
def test_a_token_in_the_response_is_redacted(token: str, stored: str) -> None:
    said = f"Authorization: Bearer {token}".encode()
    response = deliver_to(
        answering(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)), token=token
    )
    assert response.body == stored


def test_a_response_before_the_request_was_read_counts() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 413 Too big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    assert deliver_to(behave, payload=BIG_PAYLOAD).status == 413


# Bodies that are too long, compressed or incomplete


@pytest.mark.parametrize(
    ("status", "head"),
    [(200, b""), (500, b"Content-Length: 1000000000\r\n"), (302, b"Location: http://[broken/\r\n")],
)
def test_64_kib_of_an_endless_body_are_read(status: int, head: bytes) -> None:
    response = deliver_to(dripping(b"HTTP/1.1 %d So\r\n%b\r\n" % (status, head), b"x" * 65536, pause=0))
    assert outcome(response) == (status, None if status == 200 else f"HTTP {status}")
    assert response.body == "x" * MAX_RESPONSE_BYTES + CUT


def test_the_client_does_not_wait_for_more_than_64_kib() -> None:
    start = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_RESPONSE_BYTES + 1)
    assert deliver_to(dripping(start, b"", pause=1)).body == "x" * MAX_RESPONSE_BYTES + CUT


def test_a_body_of_exactly_64_kib_is_complete() -> None:
    body = b"x" * MAX_RESPONSE_BYTES
    response = deliver_to(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)))
    assert response.body == "x" * MAX_RESPONSE_BYTES


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [(b"gzip", gzip.compress(b"plain", mtime=0)), (b"deflate", zlib.compress(b"plain")), (b"gzip", b"plain")],
)
def test_a_compressed_body_is_decompressed_if_it_is_compressed_as_claimed(encoding: bytes, sent: bytes) -> None:
    head = b"HTTP/1.1 400 No\r\nContent-Encoding: %b\r\n\r\n" % encoding
    assert deliver_to(answering(head + sent)).body == "plain"


def test_a_gzip_bomb_is_limited_to_64_kib() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    assert len(bomb) < MAX_RESPONSE_BYTES
    response = deliver_to(answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb))
    assert outcome(response) == (200, None)
    assert response.body == "a" * MAX_RESPONSE_BYTES + CUT


@pytest.mark.parametrize(
    ("status", "rest", "body"),
    [
        (200, b"Content-Length: 10\r\n\r\nabc", f"abc{INCOMPLETE}"),
        (503, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", f"abcde{INCOMPLETE}"),
        (200, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", f"abc{INCOMPLETE}"),
        (200, b"Content-Len", ""),
    ],
)
def test_a_status_counts_even_if_the_body_is_incomplete(status: int, rest: bytes, body: str) -> None:
    response = deliver_to(answering(b"HTTP/1.1 %d So\r\n%b" % (status, rest)))
    assert (response.status, response.body) == (status, body)
    assert message(response) == (None if status == 200 else "HTTP 503")


def test_a_status_counts_even_if_the_connection_is_reset_in_the_body() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(1)  # let the client read: a RST discards what it has not read
        reset(connection)

    response = deliver_to(behave)
    assert (outcome(response), response.body) == ((200, None), "abc\n[response incomplete: connection reset]")


# No response


def close_at_once(connection: socket.socket) -> None:
    read_request(connection)


def reset_unread(connection: socket.socket) -> None:
    connection.recv(1)
    reset(connection)


def reset_after_reading(connection: socket.socket) -> None:
    read_request(connection)
    reset(connection)


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (close_at_once, "connection closed without a response"),
        (reset_after_reading, "connection reset"),
        (answering(b"220 mail.example ESMTP\r\n"), "not an HTTP response"),
        (answering(b"HTTP/1.1 20"), "not an HTTP response"),
        (answering(b"HTTP/3 200 OK\r\n\r\n"), "not an HTTP response"),
        (answering(b"HTTP/1.1 100 Continue\r\n\r\n"), "connection closed without a response"),
        (answering(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000 + b"\r\n\r\n"), "response headers are too long"),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), "response headers are too long"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"), "invalid header in the response"),
    ],
)
def test_no_response_is_an_error(behave: Behaviour, error: str) -> None:
    with Customer(behave) as customer:
        response = deliver(customer.url)
    assert (response.status, message(response), response.body, response.retry_after) == (None, error, "", None)
    assert len(customer.connections) == 1  # no hidden retry


@pytest.mark.parametrize("payload", [PAYLOAD, BIG_PAYLOAD])
def test_a_reset_while_the_request_is_sent_is_an_error(payload: dict[str, Any]) -> None:
    response = deliver_to(reset_unread, payload=payload)
    assert response.status is None
    # The system reports a reset once: to the send, after which the client still reads the response, or to that read.
    assert message(response) in ("connection reset", "connection closed without a response")


def test_a_closed_port_refuses_the_connection() -> None:
    response = deliver(f"http://127.0.0.1:{refused_port()}/")
    assert outcome(response) == (None, "connection refused")


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "secret"), "host name not found"),
        (socket.gaierror(socket.EAI_AGAIN, "secret"), "host name lookup failed"),
        (OSError(113, "secret"), "no route to host"),
        (TimeoutError(110, "secret"), "connection timed out"),
        (RuntimeError("secret"), "unexpected error: RuntimeError"),
    ],
)
def test_errors_of_the_system_have_their_own_codes(
    problem: Exception, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int) -> list[tuple[str, int]]:
        raise problem

    resolve_to(monkeypatch, look_up)
    response = deliver("http://customer.example/")
    assert outcome(response) == (None, error)


@pytest.mark.parametrize("token", ["two\r\nX-Lines: 1", "€uro"])
def test_a_token_that_cannot_be_sent_is_not_quoted(token: str) -> None:
    with Customer(answering(OK)) as customer:
        response = deliver(customer.url, token=token)
    assert outcome(response) == (None, "a request header cannot be sent: check the token")


@pytest.mark.parametrize("url", ["", "http://user:secret@127.0.0.1/"])
def test_an_invalid_url_is_not_quoted(url: str) -> None:
    response = deliver(url)
    assert outcome(response) == (None, "CUSTOMER_API_URL is not valid")


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (http.client.IncompleteRead(b"secret"), "incomplete response"),
        (requests.exceptions.ConnectionError("secret url"), "unexpected error: ConnectionError"),
        (urllib3.exceptions.LocationParseError("secret url"), "unexpected error: LocationParseError"),
    ],
)
def test_an_error_never_quotes_the_exception(problem: Exception, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise problem

    monkeypatch.setattr(DeadlineAdapter, "send", fail)
    assert message(deliver("http://127.0.0.1:1/")) == error


def test_the_token_and_the_url_are_not_in_the_repr() -> None:
    shown = repr(CustomerAPI(url="https://customer.example/USER_ID/", token=TOKEN, timeout=SHORT))
    assert TOKEN not in shown
    assert "USER_ID" not in shown


# One deadline for the whole exchange


def silent(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)  # until the client closes


def never_reading(connection: socket.socket) -> None:
    poller = select.poll()
    poller.register(connection, 0)  # without POLLIN: returns when the connection has been closed
    poller.poll(2500)


def sipping(connection: socket.socket) -> None:
    while connection.recv(4096):
        time.sleep(0.02)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(silent, id="silence"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), id="header dripped"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="100 dripped"),
        pytest.param(dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500, pause=0), id="103 flooded"),
    ],
)
def test_the_timeout_covers_the_wait_for_the_response(behave: Behaviour) -> None:
    with Customer(behave) as customer:
        response = deliver_in_time(customer.url)
    assert outcome(response) == (None, "timed out after 1 s")
    assert SHORT.total_seconds() * 1000 <= response.duration_ms + 1


@pytest.mark.parametrize("behave", [never_reading, sipping])
def test_the_timeout_covers_the_sending_of_a_big_body(behave: Behaviour) -> None:
    with Customer(behave) as customer:
        response = deliver_in_time(customer.url, payload=BIG_PAYLOAD)
    assert outcome(response) == (None, "timed out after 1 s")


@pytest.mark.parametrize(
    ("status", "error", "head", "piece", "start"),
    [
        (200, None, b"", b"x", "xx"),
        (503, "HTTP 503", b"Content-Length: 100000\r\n", b"x", "xx"),
        (200, None, b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n", "xx"),
        (200, None, b"Transfer-Encoding: chunked\r\n", b"0", "\n[response incomplete"),
    ],
)
def test_a_body_that_is_too_slow_does_not_change_the_status(
    status: int, error: str | None, head: bytes, piece: bytes, start: str
) -> None:
    with Customer(dripping(b"HTTP/1.1 %d So\r\n%b\r\n" % (status, head), piece)) as customer:
        response = deliver_in_time(customer.url)
    assert outcome(response) == (status, error)
    assert response.body.startswith(start)
    assert response.body.endswith("\n[response incomplete: timed out after 1 s]")


@pytest.mark.parametrize("addresses", [1, 5])
def test_the_timeout_covers_addresses_that_do_not_respond(addresses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as port:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", port)] * addresses)
        response = deliver_in_time("http://customer.example/")
    assert outcome(response) == (None, "timed out after 1 s")


def test_a_dead_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as dead, Customer(answering(OK)) as customer:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", dead), ("127.0.0.1", customer.port)])
        response = deliver("http://customer.example/", timeout=timedelta(seconds=3))
    assert outcome(response) == (200, None)


def test_the_timeout_covers_the_lookup_of_the_host_and_nothing_is_sent_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resume = threading.Event()

    def look_up(host: str, port: int) -> list[tuple[str, int]]:
        resume.wait(10)
        return [("127.0.0.1", customer.port)]

    with Customer(answering(OK)) as customer:
        resolve_to(monkeypatch, look_up)
        response = deliver_in_time("http://customer.example/")
        resume.set()
        time.sleep(0.1)
    assert outcome(response) == (None, "timed out after 1 s")
    assert customer.connections == []


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate of 127.0.0.1 and customer.example, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=customer", "-addext", "subjectAltName=IP:127.0.0.1,DNS:customer.example"]
    algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *algorithm, *subject, "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def trusted(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The same, where an operator would add a private CA."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    tls_context.cache_clear()
    yield certificate
    tls_context.cache_clear()


def https(customer: Customer) -> str:
    return customer.url.replace("http://", "https://")


def test_an_untrusted_certificate_is_refused_before_anything_is_sent(
    certificate: tuple[str, str],
) -> None:
    heads: list[list[str]] = []
    with Customer(over_tls(*certificate, recording(heads))) as customer:
        response = deliver(https(customer))
    assert outcome(response) == (None, "TLS error: certificate verify failed (self-signed certificate)")
    assert heads == []


def test_a_certificate_of_another_host_is_refused_without_naming_the_host(trusted: tuple[str, str]) -> None:
    heads: list[list[str]] = []
    with Customer(over_tls(*trusted, recording(heads))) as customer:
        response = deliver(f"https://localhost:{customer.port}/")
    assert outcome(response) == (None, "TLS error: certificate verify failed (for another host)")
    assert heads == []


def test_a_trusted_certificate_is_accepted_and_the_context_is_made_once(trusted: tuple[str, str]) -> None:
    with Customer(over_tls(*trusted, answering(OK))) as customer:
        answers = [deliver(https(customer)) for _ in range(3)]
    assert [(response.status, response.body) for response in answers] == [(200, "ok")] * 3
    assert tls_context.cache_info().misses == 1
    assert tls_context().verify_mode is ssl.CERT_REQUIRED


def answer_without_tls(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(OK)


def close_after_hello(connection: socket.socket) -> None:
    connection.recv(4096)


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (answer_without_tls, {"TLS error: wrong version number"}),
        # Python 3.11.2, which Debian 12 has, keeps OpenSSL's words for this one to itself.
        (close_after_hello, {"TLS error: unexpected eof while reading", "TLS error: connection broken"}),
        (reset_unread, {"connection reset"}),
    ],
)
def test_a_broken_handshake_is_an_error(behave: Behaviour, error: set[str]) -> None:
    with Customer(behave) as customer:
        response = deliver(https(customer))
    assert response.status is None
    assert message(response) in error


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(never_reading, id="silent handshake"),
        pytest.param(dripping(b"\x16\x03\x03\x40\x00", b"\0", read=False), id="dripped handshake"),
    ],
)
def test_the_timeout_covers_the_handshake(behave: Behaviour) -> None:
    tls_context()  # loaded once per process, here before the request starts
    with Customer(behave) as customer:
        response = deliver_in_time(https(customer))
    assert outcome(response) == (None, "timed out after 1 s")


@pytest.mark.parametrize(
    ("behave", "payload"),
    [
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), PAYLOAD, id="header dripped"),
        pytest.param(sipping, BIG_PAYLOAD, id="sips"),
    ],
)
def test_the_timeout_covers_the_exchange_inside_tls(
    trusted: tuple[str, str], behave: Behaviour, payload: dict[str, Any]
) -> None:
    tls_context()
    with Customer(over_tls(*trusted, behave)) as customer:
        response = deliver_in_time(https(customer), payload=payload)
    assert outcome(response) == (None, "timed out after 1 s")


def test_a_slow_handshake_leaves_less_time_for_the_sending(trusted: tuple[str, str]) -> None:
    tls_context()

    def behave(connection: socket.socket) -> None:
        time.sleep(1.5)
        over_tls(*trusted, never_reading)(connection)

    with Customer(behave) as customer:
        response = deliver(https(customer), payload=BIG_PAYLOAD, timeout=timedelta(seconds=2))
    assert outcome(response) == (None, "timed out after 2 s")
    assert response.duration_ms < 3500


def test_an_address_that_accepts_has_all_the_remaining_time(
    trusted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_context()

    def behave(connection: socket.socket) -> None:
        time.sleep(1)  # longer than an equal share of the timeout
        over_tls(*trusted, answering(OK))(connection)

    with Customer(behave) as customer:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", customer.port)] * 8)
        response = deliver("https://customer.example/", timeout=timedelta(seconds=6))
    assert outcome(response) == (200, None)


# Many at once, and many in a row


def test_simultaneous_exchanges_do_not_disturb_each_other() -> None:
    outcomes: list[tuple[Behaviour, tuple[int | None, str | None]]] = [
        (answering(OK), (200, None)),
        (silent, (None, "timed out after 3 s")),
        (answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), (503, "HTTP 503")),
        (dripping(b"HTTP/1.1 200 OK\r\n\r\n"), (200, None)),
        (reset_after_reading, (None, "connection reset")),
    ]

    def run(behave: Behaviour) -> tuple[int | None, str | None]:
        return outcome(deliver_to(behave, timeout=timedelta(seconds=3)))

    with ThreadPoolExecutor(len(outcomes)) as pool:
        results = list(pool.map(run, [behave for behave, _ in outcomes]))
    assert results == [expected for _, expected in outcomes]


def test_no_descriptors_or_threads_are_left() -> None:
    behaviours = [
        answering(OK),
        close_at_once,
        reset_after_reading,
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        answering(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9\r\n\r\nabc"),
        answering(b"garbage\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, pause=0),
    ]

    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = counts()
    gc.disable()  # the client must close them, not the garbage collector
    try:
        for behave in behaviours:
            with Customer(behave) as customer:
                for _ in range(10):
                    deliver(customer.url)
        for _ in range(10):
            deliver(f"http://127.0.0.1:{refused_port()}/")
        wait_until(lambda: counts() == before, 10, "the thread of the last lookup to end", pause=0.01)
    finally:
        gc.enable()


# The URL


@pytest.mark.parametrize(
    "url",
    [
        "https://contactapi.static.fyi/lead/receive/fake/USER_ID/",
        "HTTPS://müller.example?b=c",
        "http://[::1]:8080/lead",
    ],
)
def test_a_valid_url_has_no_problem(url: str) -> None:
    assert check_url(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not set"),
        ("ftp://customer.example/", "must begin with http:// or https://"),
        ("customer.example/lead", "must begin with http:// or https://"),
        ("https://", "has no host"),
        ("https://customer.example:70000/", "has an invalid host or port"),
        ("https://customer.example:0/", "has an invalid host or port"),
        ("https://customer..example/", "has an invalid host or port"),
        ("https://[::1/", "has an invalid host or port"),
        ("https://user@customer.example/", "contains credentials; they belong in CUSTOMER_API_TOKEN"),
        (" https://customer.example/", "contains white space or control characters"),
        ("https://customer.example/\n", "contains white space or control characters"),
    ],
)
def test_the_problem_of_a_url_never_quotes_it(url: str, problem: str) -> None:
    assert check_url(url) == problem


# Connections that are used again


def keeping_open(
    *answers: bytes, requests: list[int], close: Callable[[socket.socket], None] | None = None
) -> Behaviour:
    """Answer one request after the other on the same connection, then close it with `close`.

    Without `close`, the connection stays open until one side shuts it down.
    """

    def behave(connection: socket.socket) -> None:
        for answer in answers:
            head, _ = read_request(connection)
            if head:
                requests.append(connection.fileno())
                connection.sendall(answer)
        if close:
            read_request(connection)
            close(connection)
        else:
            connection.recv(1)

    return behave


def test_a_connection_that_the_customer_keeps_open_is_used_again() -> None:
    requests: list[int] = []
    with Customer(keeping_open(OK, OK, OK, requests=requests)) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        responses = [api.deliver(PAYLOAD, idempotency_key=key, correlation_id="c") for key in "abc"]

        assert [outcome(response) for response in responses] == [(200, None)] * 3
        assert len(customer.connections) == 1


@pytest.mark.parametrize(
    "answer", [OK.replace(b"1.1", b"1.0"), OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
def test_a_connection_that_the_customer_wants_closed_is_not_used_again(answer: bytes) -> None:
    with Customer(answering(answer)) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        responses = [api.deliver(PAYLOAD, idempotency_key=key, correlation_id="c") for key in "ab"]

        assert [outcome(response) for response in responses] == [(200, None)] * 2
        assert len(customer.connections) == 2


@pytest.mark.parametrize("close", [reset, socket.socket.close], ids=["reset", "closed"])
def test_a_request_on_a_connection_closed_before_the_response_is_sent_once_more(
    close: Callable[[socket.socket], None],
) -> None:
    keys: list[str] = []

    def behave(connection: socket.socket) -> None:
        for number in range(2):
            head, _ = read_request(connection)
            keys.extend(line for line in head if line.startswith("Idempotency-Key"))
            if number == 1:
                return close(connection)
            connection.sendall(OK)
        return None

    with Customer(behave) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        responses = [api.deliver(PAYLOAD, idempotency_key=key, correlation_id="c") for key in ("lead-1", "lead-2")]

        assert [outcome(response) for response in responses] == [(200, None)] * 2
        assert [response.resent for response in responses] == [False, True]
        assert keys == ["Idempotency-Key: lead-1", "Idempotency-Key: lead-2", "Idempotency-Key: lead-2"]
        assert len(customer.connections) == 2


def test_a_request_on_a_new_connection_is_never_sent_twice() -> None:
    with Customer(reset) as customer:
        assert deliver(customer.url).status is None
        assert len(customer.connections) == 1


@pytest.mark.parametrize("partial", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_response_that_has_begun_is_not_asked_for_again(partial: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        connection.sendall(partial)
        reset(connection)

    with Customer(behave) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        responses = [api.deliver(PAYLOAD, idempotency_key=key, correlation_id="c") for key in "ab"]

        assert [response.status for response in responses] in ([200, None], [200, 200])
        assert len(customer.connections) == 1


def test_a_timeout_covers_the_exchange_on_a_reused_connection_and_is_not_repeated() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")(connection)

    with Customer(behave) as customer:
        api = CustomerAPI(customer.url, TOKEN, SHORT)
        api.deliver(PAYLOAD, idempotency_key="a", correlation_id="c")
        time.sleep(0.6)  # the time between two exchanges does not count
        response = api.deliver(PAYLOAD, idempotency_key="b", correlation_id="c")

        assert message(response) == "timed out after 1 s"
        assert 900 <= response.duration_ms < 10_000
        assert len(customer.connections) == 1


def test_the_second_try_has_what_is_left_of_the_timeout() -> None:
    def behave(connection: socket.socket) -> None:
        if len(customer.connections) > 1:
            return dripping(b"HTTP/1.1 ")(connection)
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        time.sleep(0.7)
        return reset(connection)

    with Customer(behave) as customer:
        api = CustomerAPI(customer.url, TOKEN, SHORT)
        api.deliver(PAYLOAD, idempotency_key="a", correlation_id="c")
        response = api.deliver(PAYLOAD, idempotency_key="b", correlation_id="c")

        assert message(response) == "timed out after 1 s"
        assert 900 <= response.duration_ms < 1_600 + 10_000
        assert len(customer.connections) == 2


def test_an_idle_connection_with_unexpected_data_is_not_used_again() -> None:
    is_sent = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        if not is_sent.wait(0.05):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            is_sent.set()
            connection.recv(1)

    with Customer(behave) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        first = api.deliver(PAYLOAD, idempotency_key="a", correlation_id="c")
        assert is_sent.wait(5)
        second = api.deliver(PAYLOAD, idempotency_key="b", correlation_id="c")

        assert outcome(first) == outcome(second) == (200, None)
        assert len(customer.connections) == 2


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.deadline_http.MAX_IDLE_S", 0.05)
    with Customer(keeping_open(OK, OK, requests=[])) as customer:
        api = CustomerAPI(customer.url, TOKEN, timedelta(seconds=5))
        for key in "ab":
            api.deliver(PAYLOAD, idempotency_key=key, correlation_id="c")
            time.sleep(0.1)

        assert len(customer.connections) == 2
