"""Bodies on a real connection: what is read, what is refused, and that the next request is found."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads.models import InboundLead
from tests.web_server import WebServer

LIMIT = 1000
CHUNKED = b"Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
NEXT_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
TRUNCATED = "the body is shorter than announced"
TOO_LARGE = f"more than {LIMIT} bytes"


@pytest.fixture(autouse=True)
def _limit(settings):
    settings.MAX_PAYLOAD_BYTES = LIMIT


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def in_chunks_of(size: int, body: bytes) -> bytes:
    return b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size)) + LAST_CHUNK


def lead_of(size: int) -> bytes:
    """Return a lead whose JSON has this many bytes."""
    return b'{"a": "%s"}' % (b"x" * (size - 9))


@contextmanager
def connected(web: WebServer) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", web.port), timeout=30)) as sender:
        yield sender


def post(sender: socket.socket, header: bytes, body: bytes) -> None:
    sender.sendall(b"POST /webhooks/leads HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n" + body)


def responses(sender: socket.socket) -> list[tuple[int, str | None]]:
    """Return the status and the detail of each response until the connection is closed."""
    received = b""
    while part := sender.recv(65536):
        received += part
    found = []
    for text in received.split(b"HTTP/1.1 ")[1:]:
        head = text.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        details = [line.partition(": ")[2] for line in head if line.lower().startswith("x-error-detail: ")]
        found.append((int(head[0][:3]), details[0] if details else None))
    return found


def refusal(web: WebServer, header: bytes, body: bytes, *, half_close: bool = False) -> tuple[int, str | None]:
    """Return the response to a request that is not followed by another one."""
    with connected(web) as sender:
        post(sender, header, body)
        if half_close:
            sender.shutdown(socket.SHUT_WR)
        else:
            sender.sendall(NEXT_REQUEST)
        return responses(sender)[0]


# --- accepted --------------------------------------------------------------------------------------------------------

SMALL = b'{"a":1}'


@pytest.mark.parametrize(
    ("header", "body"),
    [
        *((length(size), lead_of(size)) for size in (9, LIMIT)),
        *((CHUNKED, in_chunks_of(size, lead_of(LIMIT))) for size in (1, 17, LIMIT)),
        (CHUNKED, b"7;name=value\r\n%s\r\n0\r\n\r\n" % SMALL),
        (CHUNKED, b"007\r\n%s\r\n000\r\n\r\n" % SMALL),
        (CHUNKED, b"7\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n" % SMALL),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 7", SMALL),  # Java's client
    ],
)
@pytest.mark.parametrize("pause", [False, True])
def test_a_body_is_read_to_its_end_and_not_further(web, header, body, pause):
    with connected(web) as sender:
        post(sender, header, body[:-3] if pause else body)
        if pause:
            time.sleep(0.05)
            sender.sendall(body[-3:])
        sender.sendall(NEXT_REQUEST)

        assert responses(sender) == [(200, None)] * 2


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_any_chunks_are_the_body_or_too_large(web, pieces):
    text = json.dumps({"a": [piece.decode("latin-1") for piece in pieces]}).encode()
    size = max(map(len, pieces), default=1)

    with connected(web) as sender:
        post(sender, CHUNKED, in_chunks_of(size, text) + NEXT_REQUEST)
        first, second = responses(sender)

    assert first == ((413, TOO_LARGE) if len(text) > LIMIT else (200, None))
    assert second == (200, None)


def test_a_request_without_a_body_is_empty(web):
    assert refusal(web, b"Accept: */*", b"") == (400, "empty")


def test_requests_are_answered_in_their_order(web):
    requests = [b'{"a": %d}' % number for number in range(5)]

    with connected(web) as sender:
        for body in requests:
            post(sender, length(len(body)), body)
        sender.sendall(NEXT_REQUEST)
        assert responses(sender) == [(200, None)] * 6

    assert sorted(lead.raw_payload["a"] for lead in InboundLead.objects.all()) == [0, 1, 2, 3, 4]


# --- too large -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [LIMIT + 1, 10**15])
def test_a_body_announced_too_large_is_refused_unread(web, announced):
    with connected(web) as sender:
        post(sender, length(announced), b"")

        assert sender.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_body_may_be_sent_after_an_early_refusal(web):
    with connected(web) as sender:
        post(sender, length(5_000_000), b"x" * 5_000_000)
        sender.sendall(NEXT_REQUEST)

        assert responses(sender) == [(413, TOO_LARGE), (200, None)]


def test_an_endless_chunked_body_is_refused_while_it_is_still_sent(web):
    with connected(web) as sender:
        post(sender, CHUNKED, chunk(b"x" * 100) * 11)

        assert sender.recv(65536).startswith(b"HTTP/1.1 413")


# --- truncated -------------------------------------------------------------------------------------------------------


def test_a_body_shorter_than_its_length_is_truncated(web):
    assert refusal(web, length(5), b"hell", half_close=True) == (400, TRUNCATED)


def test_a_chunked_body_cut_at_any_byte_is_truncated(web):
    whole = chunk(SMALL) + chunk(b" " * 17) + LAST_CHUNK
    for cut in range(len(whole)):
        assert refusal(web, CHUNKED, whole[:cut], half_close=True) == (400, TRUNCATED)


def test_a_half_closed_connection_gets_its_response(web):
    assert refusal(web, length(len(SMALL)), SMALL, half_close=True) == (200, None)


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nhello\r\n",  # more than the chunk says
        b"8\r\nhello\r\n",  # less
        *(b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"\r\nhello\r\n", b'{"a":1}\r\n', b"5\nhello\n", b"f" * 9000),
        *(b"0\r\n" + trailer + b"\r\n\r\n" for trailer in (b"no colon", b"X: \x00")),
    ],
)
def test_a_broken_chunk_or_trailer_is_truncated(web, body):
    assert refusal(web, CHUNKED, body + LAST_CHUNK, half_close=True) == (400, TRUNCATED)


@pytest.mark.parametrize(("header", "sent"), [(length(500), b"x" * 10), (CHUNKED, b"64\r\nhello")])
def test_a_connection_reset_in_the_body_is_logged_as_truncated(web, caplog, header, sent):
    with connected(web) as sender:
        post(sender, header, sent)
        time.sleep(0.1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    for _ in range(100):
        if TRUNCATED in caplog.text:
            return
        time.sleep(0.05)
    pytest.fail("the request was not refused")


@pytest.mark.parametrize("announced", [b"-1", b"abc", b"5, 5", b"+5"])
def test_an_invalid_length_is_refused(web, announced):
    assert refusal(web, b"Content-Length: " + announced, b"hello") == (400, None)


# --- too slow, too fragmented ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "sent"), [(length(500), b"x" * 10), (CHUNKED, b"64\r\nhello"), (CHUNKED, b"6")])
def test_a_body_after_the_deadline_is_too_slow(web, settings, header, sent):
    settings.WEB_READ_TIMEOUT = timedelta(milliseconds=200)
    with connected(web) as sender:
        post(sender, header, sent)

        assert responses(sender) == [(408, "not received within 0.2 s")]


@pytest.mark.parametrize(("size", "is_read"), [(1, False), (64, True), (1024, True), (262_144, True)])
def test_a_large_body_is_read_unless_in_tiny_chunks(web, settings, size, is_read):
    settings.MAX_PAYLOAD_BYTES = 262_144
    sent = in_chunks_of(size, lead_of(262_144))

    answer = refusal(web, CHUNKED, sent)

    assert answer == ((200, None) if is_read else (400, "the body comes in too many small chunks"))
