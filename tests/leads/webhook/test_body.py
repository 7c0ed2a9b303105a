"""Bodies as gunicorn's parser and readers provide them, from a real connection."""

import io
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.test import RequestFactory
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import strategies as st

from leads.webhook.body import BodyTooFragmented, BodyTooLarge, BodyTooSlow, BodyTruncated, read_body

LIMIT = 1000
CHUNKED = b"Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
NEXT_REQUEST = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection:
    """A sender connected to gunicorn's request parser. A read that has nothing to read times out, and so fails."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.sender = socket.create_connection(listener.getsockname())
            self.server, self.peer = listener.accept()
        self.server.settimeout(0.5)
        self.parser = RequestParser(Config(), self.server, self.peer)

    def receive(self, header: bytes, body: bytes) -> HttpRequest:
        """Send a request's head and (some of) its body; return the request as Django gets it."""
        head = b"POST /webhooks/leads HTTP/1.1\r\nHost: test\r\n" + header + b"\r\n\r\n"
        self.sender.sendall(head + body)
        return self.next_request()

    def next_request(self) -> HttpRequest:
        _, environ = create(next(self.parser), self.server, self.peer, self.server.getsockname(), Config())
        return WSGIRequest(environ)

    def half_close(self) -> None:
        self.sender.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sender.close()

    def close(self) -> None:
        self.sender.close()
        self.server.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.close()


class Unreadable(io.BytesIO):
    """A stream that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        pytest.fail("the body was read")


class Counted(io.BytesIO):
    """A stream that returns a few bytes at a time and counts them."""

    given = 0

    def read(self, size: int | None = -1, /) -> bytes:
        asked = 9 if size is None or size < 0 else min(size, 9)
        piece = super().read(asked)
        self.given += len(piece)
        return piece


def request_with(stream: Any, **environ: Any) -> HttpRequest:
    request = RequestFactory().generic("POST", "/webhooks/leads")
    return WSGIRequest(request.environ | {"CONTENT_LENGTH": "", "wsgi.input": stream} | environ)


def chunked_request(stream: Any) -> HttpRequest:
    return request_with(stream, **{"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True})


# --- accepted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "sent", "body"),
    [
        (b"Accept: */*", b"", b""),
        *((length(size), b"x" * size, b"x" * size) for size in (0, 1, LIMIT)),
        *(
            (CHUNKED, b"".join(map(chunk, pieces)) + LAST_CHUNK, b"".join(pieces))
            for pieces in ([], [b'{"a":', b"1}"], [b"x"] * LIMIT, [b"x" * LIMIT], [b"0\r\n\r\n", bytes(range(256))])
        ),
        (CHUNKED, b"5;name=value\r\nhello\r\n0\r\n\r\n", b"hello"),
        (CHUNKED, b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"),
    ],
)
def test_a_body_is_read_to_its_end_and_not_further(connection, header, sent, body):
    request = connection.receive(header, sent + NEXT_REQUEST)

    assert read_body(request, limit=LIMIT) == body
    assert connection.next_request().path == "/health"


def test_a_body_that_django_has_read_is_returned():
    request = RequestFactory().generic("POST", "/webhooks/leads", b'{"a":1}')

    assert request.body == b'{"a":1}'
    assert read_body(request, limit=LIMIT) == b'{"a":1}'


def test_a_length_takes_precedence_over_a_transfer_encoding():
    request = request_with(
        io.BytesIO(b"hello, next request"),
        **{"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
    )

    assert read_body(request, limit=LIMIT) == b"hello"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_any_chunks_are_the_body_or_too_large(pieces):
    connection = Connection()
    try:
        request = connection.receive(CHUNKED, b"".join(map(chunk, pieces)) + LAST_CHUNK)
        body = b"".join(pieces)
        if len(body) > LIMIT:
            with pytest.raises(BodyTooLarge):
                read_body(request, limit=LIMIT)
        else:
            assert read_body(request, limit=LIMIT) == body
    finally:
        connection.close()


def test_short_reads_are_repeated():
    body = bytes(range(256))

    assert read_body(request_with(Counted(body), CONTENT_LENGTH="256"), limit=LIMIT) == body
    assert read_body(chunked_request(Counted(body)), limit=LIMIT) == body


# --- too large -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [LIMIT + 1, 10**30])
def test_a_body_announced_too_large_is_refused_unread(announced):
    with pytest.raises(BodyTooLarge):
        read_body(request_with(Unreadable(), CONTENT_LENGTH=str(announced)), limit=LIMIT)


def test_an_endless_chunked_body_is_refused_while_it_is_still_sent(connection):
    request = connection.receive(CHUNKED, chunk(b"x" * 100) * 11)

    with pytest.raises(BodyTooLarge):
        read_body(request, limit=LIMIT)


def test_a_chunked_body_is_read_to_one_byte_over_the_limit():
    stream = Counted(b"x" * 100 * LIMIT)

    with pytest.raises(BodyTooLarge):
        read_body(chunked_request(stream), limit=LIMIT)
    assert stream.given == LIMIT + 1


# --- truncated -------------------------------------------------------------------------------------------------------


def test_a_body_shorter_than_its_length_is_truncated(connection):
    request = connection.receive(length(5), b"hell")
    connection.half_close()

    with pytest.raises(BodyTruncated):
        read_body(request, limit=LIMIT)


def test_a_chunked_body_cut_at_any_byte_is_truncated():
    whole = chunk(b"hello") + chunk(b"x" * 17) + LAST_CHUNK
    for cut in range(len(whole)):
        connection = Connection()
        request = connection.receive(CHUNKED, whole[:cut])
        connection.half_close()
        with pytest.raises(BodyTruncated):
            read_body(request, limit=LIMIT)
        connection.close()


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nhello\r\n",  # more than the chunk says
        b"8\r\nhello\r\n",  # less
        *(b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"\r\nhello\r\n", b'{"a":1}\r\n', b"5\nhello\n", b"f" * 9000),
        *(b"0\r\n" + trailer + b"\r\n\r\n" for trailer in (b"no colon", b"Content-Length: 5", b"X: \x00")),
    ],
)
def test_a_broken_chunk_or_trailer_is_truncated(connection, body):
    request = connection.receive(CHUNKED, body + LAST_CHUNK)
    connection.half_close()

    with pytest.raises(BodyTruncated):
        read_body(request, limit=LIMIT)


@pytest.mark.parametrize(("header", "sent"), [(length(500), b"x" * 10), (CHUNKED, b"64\r\nhello")])
def test_a_connection_reset_in_the_body_is_truncated(connection, header, sent):
    request = connection.receive(header, sent)
    connection.reset()

    with pytest.raises(BodyTruncated):
        read_body(request, limit=LIMIT)


@pytest.mark.parametrize("announced", ["-1", "abc", "5, 5"])
def test_an_invalid_length_is_refused_unread(announced):
    with pytest.raises(BodyTruncated):
        read_body(request_with(Unreadable(), CONTENT_LENGTH=announced), limit=LIMIT)


def test_an_undelimited_chunked_body_is_not_read():
    request = request_with(Unreadable(), HTTP_TRANSFER_ENCODING="chunked")

    with pytest.raises(BodyTruncated):
        read_body(request, limit=LIMIT)


def test_the_reason_never_quotes_the_body(connection):
    request = connection.receive(CHUNKED, b"geheim\r\n")

    with pytest.raises(BodyTruncated) as refused:
        read_body(request, limit=LIMIT)
    assert "geheim" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


# --- too slow, too fragmented ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "sent"), [(length(500), b"x" * 10), (CHUNKED, b"64\r\nhello"), (CHUNKED, b"6")])
def test_a_body_after_the_deadline_is_too_slow(connection, header, sent):
    connection.server.settimeout(0.01)

    with pytest.raises(BodyTooSlow) as refused:
        read_body(connection.receive(header, sent), limit=LIMIT)
    assert refused.value.__suppress_context__


def in_chunks_of(size: int, body: bytes) -> bytes:
    return b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size)) + LAST_CHUNK


@pytest.mark.parametrize(("size", "is_read"), [(1, False), (1024, True), (262_144, True)])
def test_a_large_body_is_read_unless_in_tiny_chunks(size, is_read):
    body = b"x" * 262_144
    sent = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks_of(size, body)
    received = (sent[at : at + 8192] for at in range(0, len(sent), 8192))  # as a socket hands it over
    _, environ = create(next(RequestParser(Config(), received, None)), None, "", "", Config())
    started = time.thread_time()

    with nullcontext() if is_read else pytest.raises(BodyTooFragmented):
        assert read_body(WSGIRequest(environ), limit=262_144) == body
    assert time.thread_time() - started < 5
