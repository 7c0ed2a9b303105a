import gc
import gzip
import http.client
import json
import os
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

from delivery import client
from delivery.client import MAX_ANSWER_BYTES, CustomerAPI, CustomerResponse, check_url
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

TOKEN = "token-that-nobody-may-see"
PAYLOAD = {"phone": "+4915112345678", "product": {"name": "solar"}, "attributes": [{"name": "Straße", "value": "Süd"}]}
#: Far more than the buffers of both sockets hold.
BIG_PAYLOAD = {"phone": "x" * 8_000_000}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = timedelta(milliseconds=300)
SLACK = 0.5


def deliver(
    url: str, *, payload: dict[str, Any] = PAYLOAD, timeout: timedelta = timedelta(seconds=5), token: str = TOKEN
) -> CustomerResponse:
    api = CustomerAPI(url=url, token=token, timeout=timeout)
    return api.deliver(payload, idempotency_key="lead-7", correlation_id="c0ffee")


def deliver_to(behave: Behaviour, **kwargs: Any) -> CustomerResponse:
    with Customer(behave) as customer:
        return deliver(customer.url, **kwargs)


def deliver_in_time(url: str, *, payload: dict[str, Any] = PAYLOAD) -> CustomerResponse:
    """Deliver with 300 ms, and see that it took no longer."""
    started = time.monotonic()
    answer = deliver(url, payload=payload, timeout=SHORT)
    assert time.monotonic() - started < SHORT.total_seconds() + SLACK
    return answer


def resolve_to(monkeypatch: pytest.MonkeyPatch, look_up: Callable[[str, int], list[tuple[str, int]]]) -> None:
    """Stand in for the DNS: the one thing of the network that a test cannot run for real."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in look_up(host, port)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# Whatever the customer sends


PIECES_OF_AN_ANSWER = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2 ", b"ICY ", b"200 OK", b"503", b"100 Continue"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b" folded\r\n", b"\xff\x00: \xfe\r\n", b"x" * 300),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffff\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Retry-After: 3\r\n", b"Connection: keep-alive\r\n"),
]
ANSWERS = st.lists(st.sampled_from(PIECES_OF_AN_ANSWER) | st.binary(max_size=8), max_size=10).map(b"".join)
BODIES = st.binary(max_size=200) | st.binary(max_size=200).map(gzip.compress) | st.just(b"\xc3\xa4" * 40_000)


@given(ANSWERS)
def test_whatever_comes_back_is_an_answer(sent: bytes) -> None:
    answer = deliver_to(answering(sent))

    assert (answer.error is None) is (answer.status is not None and 200 <= answer.status < 300)
    assert_storable(answer)
    assert TOKEN not in f"{answer.error}{answer.body}"


@given(st.sampled_from([b"identity", b"gzip", b"deflate", b"br"]), BODIES)
def test_any_body_is_kept_as_text_of_bounded_length(encoding: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 422 X\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))

    answer = deliver_to(answering(head + body))

    assert (answer.status, answer.error) == (422, "HTTP 422")
    assert_storable(answer)


def assert_storable(answer: CustomerResponse) -> None:
    text = f"{answer.body}{answer.error}{answer.retry_after}"
    assert "\0" not in text
    assert text.encode()  # no lone surrogates
    # Each byte that is no UTF-8 becomes a sign of three.
    assert len(answer.body) <= MAX_ANSWER_BYTES + 100


# What is sent


def test_the_request_is_exactly_what_was_agreed_with_the_customer() -> None:
    seen: list[tuple[list[str], bytes]] = []

    def behave(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    with Customer(behave) as customer:
        answer = deliver(customer.url)
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
            "Connection: close",
        ]
    )
    assert body == json.dumps(PAYLOAD, ensure_ascii=False).encode()
    assert (answer.status, answer.body, answer.error, answer.retry_after) == (200, "ok", None, None)


def test_without_a_token_there_is_no_authorization_header() -> None:
    heads: list[list[str]] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_request(connection)[0])
        connection.sendall(OK)

    assert deliver_to(behave, token="").status == 200
    assert not [line for line in heads[0] if line.lower().startswith("authorization")]


def test_proxies_and_netrc_of_the_environment_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heads: list[list[str]] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_request(connection)[0])
        connection.sendall(OK)

    with Customer(behave) as customer, Customer(answering(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        # The trap is set: requests by itself would fall into both.
        assert requests.utils.get_environ_proxies(customer.url)
        assert requests.utils.get_netrc_auth(customer.url)
        assert deliver(customer.url).status == 200
    assert f"Authorization: Bearer {TOKEN}" in heads[0]
    assert proxy.connections == []


def test_every_exchange_has_a_connection_of_its_own() -> None:
    def behave(connection: socket.socket) -> None:
        while read_request(connection)[0]:
            connection.sendall(OK)

    with Customer(behave) as customer:
        for _ in range(3):
            assert deliver(customer.url).status == 200
    assert len(customer.connections) == 3


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_a_payload_that_is_not_json_is_the_callers_mistake_and_nothing_is_sent(payload: dict[str, Any]) -> None:
    with Customer(answering(OK)) as customer, pytest.raises((ValueError, TypeError)):
        deliver(customer.url, payload=payload)
    assert customer.connections == []


# What the customer answers


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None),
        (201, None),
        (202, None),
        (204, None),
        (299, None),
        (101, "HTTP 101"),
        (300, "HTTP 300"),
        (304, "HTTP 304"),
        (400, "HTTP 400"),
        (401, "HTTP 401"),
        (422, "HTTP 422"),
        (429, "HTTP 429"),
        (500, "HTTP 500"),
        (503, "HTTP 503"),
        (999, "HTTP 999"),
    ],
)
def test_only_a_2xx_has_no_error(status: int, error: str | None) -> None:
    answer = deliver_to(answering(b"HTTP/1.1 %d Reason\r\nContent-Length: 0\r\n\r\n" % status))
    assert (answer.status, answer.error, answer.body) == (status, error, "")


@pytest.mark.parametrize("interim", [100, 102, 103])
def test_an_interim_status_is_not_the_answer(interim: int) -> None:
    head = b"HTTP/1.1 %d Wait\r\nLink: </x>\r\n\r\n" % interim
    answer = deliver_to(answering(head * 3 + b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"))
    assert (answer.status, answer.body) == (201, "ok")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Customer(answering(OK)) as elsewhere:
        location = elsewhere.url.encode()
        redirect = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 4\r\n\r\ngone" % (status, location)
        with Customer(answering(redirect)) as customer:
            answer = deliver(customer.url)
    assert (answer.status, answer.error, answer.body) == (status, f"HTTP {status}", "gone")
    assert len(customer.connections) == 1
    assert elsewhere.connections == []


def test_of_an_endless_redirect_no_more_is_read_than_of_any_answer() -> None:
    start = b"HTTP/1.1 302 Found\r\nLocation: http://[broken/\r\n\r\n"
    answer = deliver_to(dripping(start, b"x" * 65536, pause=0), timeout=timedelta(seconds=5))
    assert (answer.status, answer.error) == (302, "HTTP 302")
    assert answer.duration_ms < 4000


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
def test_retry_after_is_handed_on_as_sent_but_bounded(header: bytes, retry_after: str | None) -> None:
    answer = deliver_to(answering(b"HTTP/1.1 503 Busy\r\n" + header + b"Content-Length: 0\r\n\r\n"))
    assert (answer.status, answer.retry_after) == (503, retry_after)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("Größe".encode(), "Größe"),
        ("Größe".encode("latin-1"), "Gr\ufffd\ufffde"),
        (b"a\0b", "a\ufffdb"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
def test_the_body_is_text_that_the_database_can_hold(sent: bytes, text: str) -> None:
    answer = deliver_to(answering(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(sent), sent)))
    assert answer.body == text


@pytest.mark.parametrize(
    ("token", "stored"),
    [("a-token-of-the-customers", "Authorization: Bearer [redacted]"), ("Bear", "Authorization: Bearer Bear")],
)
def test_an_answer_that_quotes_the_token_is_stored_without_it(token: str, stored: str) -> None:
    said = f"Authorization: Bearer {token}".encode()
    answer = deliver_to(answering(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)), token=token)
    assert answer.body == stored


def test_a_chunked_body_is_put_together() -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert deliver_to(answering(body)).body == "abcde"


def test_an_answer_before_the_body_was_read_counts() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 413 Too big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    assert deliver_to(behave, payload=BIG_PAYLOAD).status == 413


def test_headers_and_body_leave_at_once() -> None:
    with Customer(answering(OK)) as customer, client._connect("127.0.0.1", customer.port, time.monotonic() + 5) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Bodies that are too long, packed, or break off: the status counts

CUT = "\n[only the first 64 KiB of the answer were read]"


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("head", [b"", b"Content-Length: 1000000000\r\n"])
def test_of_an_endless_body_64_kib_are_read(status: int, head: bytes) -> None:
    answer = deliver_to(dripping(b"HTTP/1.1 %d So\r\n%b\r\n" % (status, head), b"x" * 65536, pause=0))
    assert (answer.status, answer.error) == (status, None if status == 200 else "HTTP 500")
    assert answer.body == "x" * MAX_ANSWER_BYTES + CUT


def test_what_comes_after_64_kib_is_not_waited_for() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1))
        connection.recv(1)  # until the client goes

    answer = deliver_to(behave)
    assert answer.body == "x" * MAX_ANSWER_BYTES + CUT
    assert answer.duration_ms < 4000


def test_a_body_of_exactly_64_kib_is_whole() -> None:
    body = b"x" * MAX_ANSWER_BYTES
    answer = deliver_to(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)))
    assert answer.body == "x" * MAX_ANSWER_BYTES


@pytest.mark.parametrize(("encoding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_a_packed_body_is_unpacked(encoding: bytes, pack: Callable[[bytes], bytes]) -> None:
    head = b"HTTP/1.1 400 No\r\nContent-Encoding: %b\r\n\r\n" % encoding
    assert deliver_to(answering(head + pack("Größe".encode()))).body == "Größe"


def test_a_gzip_bomb_goes_off_in_64_kib() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    assert len(bomb) < MAX_ANSWER_BYTES
    answer = deliver_to(answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb))
    assert (answer.status, answer.error) == (200, None)
    assert answer.body == "a" * MAX_ANSWER_BYTES + CUT


def test_what_only_claims_to_be_packed_is_kept_as_it_came() -> None:
    answer = deliver_to(answering(b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\n\r\nplain"))
    assert (answer.status, answer.body) == (400, "plain")


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize(
    ("rest", "body"),
    [
        (b"Content-Length: 10\r\n\r\nabc", "abc\n[the answer broke off: incomplete answer]"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", "abcde\n[the answer broke off: incomplete answer]"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "abc\n[the answer broke off: incomplete answer]"),
        (b"Content-Len", ""),
    ],
)
def test_a_status_counts_also_when_what_follows_breaks_off(status: int, rest: bytes, body: str) -> None:
    answer = deliver_to(answering(b"HTTP/1.1 %d So\r\n%b" % (status, rest)))
    assert (answer.status, answer.body) == (status, body)
    assert answer.error == (None if status == 200 else "HTTP 503")


def test_a_status_counts_also_when_the_connection_is_reset_in_the_body() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.1)  # let the client read: a RST throws away what it has not
        reset(connection)

    answer = deliver_to(behave)
    assert (answer.status, answer.error, answer.body) == (200, None, "abc\n[the answer broke off: connection reset]")


# Answers that are none


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
        (close_at_once, "connection closed without an answer"),
        (reset_after_reading, "connection reset"),
        (answering(b"220 mail.example ESMTP\r\n"), "not an HTTP answer"),
        (answering(b"\x15\x03\x03\x00\x02\x02\x46"), "not an HTTP answer"),
        (answering(b"HTTP/1.1 abc\r\n\r\n"), "not an HTTP answer"),
        (answering(b"HTTP/1.1 20"), "not an HTTP answer"),
        (answering(b"HTTP/3 200 OK\r\n\r\n"), "not an HTTP answer"),
        (answering(b"HTTP/1.1 100 Continue\r\n\r\n"), "connection closed without an answer"),
        (answering(b"x" * 200_000), "headers of the answer are too long"),
        (answering(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000 + b"\r\n\r\n"), "headers of the answer are too long"),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), "headers of the answer are too long"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"), "invalid header in the answer"),
    ],
)
def test_no_answer_is_an_error_in_plain_words(behave: Behaviour, error: str) -> None:
    with Customer(behave) as customer:
        answer = deliver(customer.url)
    assert (answer.status, answer.error, answer.body, answer.retry_after) == (None, error, "", None)
    assert len(customer.connections) == 1  # not tried again behind the caller's back


@pytest.mark.parametrize("payload", [PAYLOAD, BIG_PAYLOAD])
def test_a_reset_while_the_request_is_being_sent_is_an_error_in_plain_words(payload: dict[str, Any]) -> None:
    answer = deliver_to(reset_unread, payload=payload)
    assert answer.status is None
    # The system reports a reset once: to the send, after which the client still looks for an answer, or to that look.
    assert answer.error in ("connection reset", "connection closed without an answer")


def test_a_port_that_nobody_listens_on_refuses() -> None:
    answer = deliver(f"http://127.0.0.1:{refused_port()}/")
    assert (answer.status, answer.error) == (None, "connection refused")


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "secret"), "host name not found"),
        (socket.gaierror(socket.EAI_AGAIN, "secret"), "host name lookup failed"),
        (OSError(113, "secret"), "no route to host"),
        (OSError(24, "secret"), "too many open files"),
        (TimeoutError(110, "secret"), "connection timed out"),
        (RuntimeError("secret"), "unexpected error: RuntimeError"),
    ],
)
def test_what_the_system_reports_is_put_in_plain_words(
    problem: Exception, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int) -> list[tuple[str, int]]:
        raise problem

    resolve_to(monkeypatch, look_up)
    answer = deliver("http://customer.example/")
    assert (answer.status, answer.error) == (None, error)


@pytest.mark.parametrize("token", ["two\r\nX-Lines: 1", "€uro"])
def test_a_token_that_cannot_be_sent_is_an_answer_that_does_not_quote_it(token: str) -> None:
    with Customer(answering(OK)) as customer:
        answer = deliver(customer.url, token=token)
    assert (answer.status, answer.error) == (None, "a header of the request cannot be sent: check the token")


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://user:secret@127.0.0.1/", "http://a..b/"])
def test_a_bad_url_is_an_answer_that_does_not_quote_it(url: str) -> None:
    answer = deliver(url)
    assert (answer.status, answer.error) == (None, "CUSTOMER_API_URL is not valid")


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (http.client.IncompleteRead(b"secret"), "incomplete answer"),
        (requests.exceptions.ConnectionError("secret url"), "unexpected error: ConnectionError"),
        (urllib3.exceptions.LocationParseError("secret url"), "unexpected error: LocationParseError"),
    ],
)
def test_an_error_text_never_quotes_the_exception(
    problem: Exception, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise problem

    monkeypatch.setattr(client._OneConnection, "send", fail)
    assert deliver("http://127.0.0.1:1/").error == error


def test_the_token_and_the_url_do_not_show_in_the_clients_own_text() -> None:
    shown = repr(CustomerAPI(url="https://customer.example/USER_ID/", token=TOKEN, timeout=SHORT))
    assert TOKEN not in shown
    assert "USER_ID" not in shown


# One deadline for all of it


def silent(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)  # until the client goes


def never_reading(connection: socket.socket) -> None:
    time.sleep(SHORT.total_seconds() + SLACK)


def sipping(connection: socket.socket) -> None:
    while connection.recv(4096):
        time.sleep(0.02)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(silent, id="silence"),
        pytest.param(dripping(b"", b"H"), id="status line dripped"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), id="header dripped"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", pause=0.05), id="headers dripped"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="100 dripped"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500, pause=0), id="100 flooded"),
        pytest.param(dripping(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"), id="103 dripped"),
        pytest.param(dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500, pause=0), id="103 flooded"),
    ],
)
def test_the_time_out_covers_the_wait_for_the_answer(behave: Behaviour) -> None:
    with Customer(behave) as customer:
        answer = deliver_in_time(customer.url)
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")
    assert SHORT.total_seconds() * 1000 <= answer.duration_ms + 1


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(never_reading, id="never reads"),
        pytest.param(sipping, id="sips"),
    ],
)
def test_the_time_out_covers_the_sending_of_a_big_body(behave: Behaviour) -> None:
    with Customer(behave) as customer:
        answer = deliver_in_time(customer.url, payload=BIG_PAYLOAD)
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")


@pytest.mark.parametrize(("status", "error"), [(200, None), (503, "HTTP 503")])
@pytest.mark.parametrize(
    ("head", "piece", "start"),
    [
        (b"", b"x", "xx"),
        (b"Content-Length: 100000\r\n", b"x", "xx"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n", "xx"),
        (b"Transfer-Encoding: chunked\r\n", b"0", "\n[the answer broke off"),
    ],
)
def test_a_body_that_drips_past_the_deadline_leaves_the_status_as_it_is(
    status: int, error: str | None, head: bytes, piece: bytes, start: str
) -> None:
    with Customer(dripping(b"HTTP/1.1 %d So\r\n%b\r\n" % (status, head), piece)) as customer:
        answer = deliver_in_time(customer.url)
    assert (answer.status, answer.error) == (status, error)
    assert answer.body.startswith(start)
    assert answer.body.endswith("\n[the answer broke off: timed out after 0.3 s]")


def test_the_time_out_covers_a_host_that_does_not_answer() -> None:
    with black_hole() as port:
        answer = deliver_in_time(f"http://127.0.0.1:{port}/")
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")


def test_several_dead_addresses_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as port:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", port)] * 5)
        answer = deliver_in_time("http://customer.example/")
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")


def test_a_dead_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as dead, Customer(answering(OK)) as customer:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", dead), ("127.0.0.1", customer.port)])
        answer = deliver("http://customer.example/", timeout=timedelta(seconds=1))
    assert (answer.status, answer.error) == (200, None)


def test_the_time_out_covers_the_lookup_of_the_host_and_nothing_is_sent_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resume = threading.Event()

    def look_up(host: str, port: int) -> list[tuple[str, int]]:
        resume.wait(10)
        return [("127.0.0.1", customer.port)]

    with Customer(answering(OK)) as customer:
        resolve_to(monkeypatch, look_up)
        answer = deliver_in_time("http://customer.example/")
        resume.set()
        time.sleep(0.1)
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")
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
    """The same, put where an operator would add a private CA."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    client._tls_context.cache_clear()
    yield certificate
    client._tls_context.cache_clear()


def https(customer: Customer) -> str:
    return customer.url.replace("http://", "https://")


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    certificate: tuple[str, str],
) -> None:
    heads: list[list[str]] = []
    behave = over_tls(*certificate, lambda connection: heads.append(read_request(connection)[0]))
    with Customer(behave) as customer:
        answer = deliver(https(customer))
    assert answer.status is None
    assert answer.error == "TLS error: certificate verify failed (self-signed certificate)"
    assert heads == []


def test_a_certificate_of_another_host_is_refused_without_naming_the_host(trusted: tuple[str, str]) -> None:
    heads: list[list[str]] = []
    behave = over_tls(*trusted, lambda connection: heads.append(read_request(connection)[0]))
    with Customer(behave) as customer:
        answer = deliver(f"https://localhost:{customer.port}/")
    assert (answer.status, answer.error) == (None, "TLS error: certificate verify failed (for another host)")
    assert heads == []


def test_a_trusted_certificate_is_accepted_and_the_context_is_made_once(trusted: tuple[str, str]) -> None:
    with Customer(over_tls(*trusted, answering(OK))) as customer:
        answers = [deliver(https(customer)) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, "ok")] * 3
    assert client._tls_context.cache_info().misses == 1
    assert client._tls_context().verify_mode is ssl.CERT_REQUIRED


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
def test_a_customer_that_breaks_the_handshake_is_an_error_in_plain_words(behave: Behaviour, error: set[str]) -> None:
    with Customer(behave) as customer:
        answer = deliver(https(customer))
    assert answer.status is None
    assert answer.error in error


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(never_reading, id="silent handshake"),
        pytest.param(dripping(b"\x16\x03\x03\x40\x00", b"\0", read=False), id="dripped handshake"),
    ],
)
def test_the_time_out_covers_the_handshake(behave: Behaviour) -> None:
    client._tls_context()  # made once per process, and not on the customer's time here
    with Customer(behave) as customer:
        answer = deliver_in_time(https(customer))
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")


@pytest.mark.parametrize(
    ("behave", "payload"),
    [
        pytest.param(silent, PAYLOAD, id="silence"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), PAYLOAD, id="header dripped"),
        pytest.param(never_reading, BIG_PAYLOAD, id="never reads"),
        pytest.param(sipping, BIG_PAYLOAD, id="sips"),
    ],
)
def test_the_time_out_covers_the_exchange_inside_tls(
    trusted: tuple[str, str], behave: Behaviour, payload: dict[str, Any]
) -> None:
    client._tls_context()
    with Customer(over_tls(*trusted, behave)) as customer:
        answer = deliver_in_time(https(customer), payload=payload)
    assert (answer.status, answer.error) == (None, "timed out after 0.3 s")


def test_a_slow_handshake_leaves_less_time_for_the_sending(trusted: tuple[str, str]) -> None:
    client._tls_context()

    def behave(connection: socket.socket) -> None:
        time.sleep(0.8)
        over_tls(*trusted, lambda _: time.sleep(1.5))(connection)

    with Customer(behave) as customer:
        answer = deliver(https(customer), payload=BIG_PAYLOAD, timeout=timedelta(seconds=1))
    assert (answer.status, answer.error) == (None, "timed out after 1 s")
    assert answer.duration_ms < 1000 + SLACK * 1000


def test_an_address_that_answers_has_all_the_time_that_is_left(
    trusted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client._tls_context()

    def behave(connection: socket.socket) -> None:
        time.sleep(0.7)
        over_tls(*trusted, answering(OK))(connection)

    with Customer(behave) as customer:
        resolve_to(monkeypatch, lambda *_: [("127.0.0.1", customer.port)] * 2)
        answer = deliver("https://customer.example/", timeout=timedelta(seconds=1.2))
    assert (answer.status, answer.error) == (200, None)


def test_a_body_that_drips_inside_tls_leaves_the_status_as_it_is(trusted: tuple[str, str]) -> None:
    client._tls_context()
    with Customer(over_tls(*trusted, dripping(b"HTTP/1.1 200 OK\r\n\r\n"))) as customer:
        answer = deliver_in_time(https(customer))
    assert (answer.status, answer.error) == (200, None)
    assert answer.body.endswith("x\n[the answer broke off: timed out after 0.3 s]")


# Many at once, and many in a row


def test_exchanges_side_by_side_do_not_disturb_each_other() -> None:
    outcomes: list[tuple[Behaviour, tuple[int | None, str | None]]] = [
        (answering(OK), (200, None)),
        (silent, (None, "timed out after 2 s")),
        (answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), (503, "HTTP 503")),
        (dripping(b"HTTP/1.1 200 OK\r\n\r\n"), (200, None)),
        (reset_after_reading, (None, "connection reset")),
        (close_at_once, (None, "connection closed without an answer")),
        (dripping(b"", b"H"), (None, "timed out after 2 s")),
        (answering(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), (404, "HTTP 404")),
    ]

    def run(behave: Behaviour) -> list[tuple[int | None, str | None]]:
        with Customer(behave) as customer:
            answers = [deliver(customer.url, timeout=timedelta(seconds=2)) for _ in range(2)]
        return [(answer.status, answer.error) for answer in answers]

    with ThreadPoolExecutor(len(outcomes)) as pool:
        results = list(pool.map(run, [behave for behave, _ in outcomes]))
    assert results == [[expected] * 2 for _, expected in outcomes]


def test_neither_descriptors_nor_threads_are_left_behind() -> None:
    behaviours = [
        answering(OK),
        close_at_once,
        reset_after_reading,
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        answering(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9\r\n\r\nabc"),
        answering(b"garbage\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, pause=0),
    ]

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors(), threading.active_count()
    gc.disable()  # what is closed must be closed by us, not by the collector
    try:
        for behave in behaviours:
            with Customer(behave) as customer:
                for _ in range(25):
                    deliver(customer.url)
        for _ in range(25):
            deliver(f"http://127.0.0.1:{refused_port()}/")
        time.sleep(0.1)  # the last lookup's thread has given its result, and is about to end
        after = descriptors(), threading.active_count()
    finally:
        gc.enable()
    assert after == before


# The URL


@pytest.mark.parametrize(
    "url",
    [
        "https://contactapi.static.fyi/lead/receive/fake/USER_ID/",
        "http://localhost:8001",
        "HTTPS://Customer.Example/a?b=c",
        "http://127.0.0.1:1/",
        "http://[::1]:8080/lead",
        "https://müller.example/",
    ],
)
def test_a_good_url_has_nothing_wrong(url: str) -> None:
    assert check_url(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not set"),
        ("ftp://customer.example/", "must begin with http:// or https://"),
        ("customer.example/lead", "must begin with http:// or https://"),
        ("//customer.example/lead", "must begin with http:// or https://"),
        ("https://", "has no host"),
        ("https:///lead", "has no host"),
        ("https://:443/lead", "has no host"),
        ("https://customer.example:http/", "has an invalid host or port"),
        ("https://customer.example:70000/", "has an invalid host or port"),
        ("https://customer.example:0/", "has an invalid host or port"),
        ("https://customer..example/", "has an invalid host or port"),
        ("https://*.example/", "has an invalid host or port"),
        (f"https://{'a' * 64}.example/", "has an invalid host or port"),
        ("https://[::1/", "has an invalid host or port"),
        ("https://user:secret@customer.example/", "contains credentials; they belong in CUSTOMER_API_TOKEN"),
        ("https://user@customer.example/", "contains credentials; they belong in CUSTOMER_API_TOKEN"),
        (" https://customer.example/", "contains white space or control characters"),
        ("https://customer.example/\n", "contains white space or control characters"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_quoting_it(url: str, problem: str) -> None:
    assert check_url(url) == problem
