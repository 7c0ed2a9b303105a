"""The bytes of a request, whole or not at all: what Django accepts cut short is refused, what it cannot see is read."""

import time
from typing import Protocol

from django.http import HttpRequest


class BodyTooLarge(Exception):
    """The body is larger than the limit, by its Content-Length or by what was read of it."""


class BodyTruncated(Exception):
    """The body is not all there: it ended before its length or in the middle of a chunk, or could not be read."""


class BodyTooFragmented(Exception):
    """The body comes in so many small chunks that taking them apart costs more than the body is worth."""


class BodyTooSlow(Exception):
    """The sender did not send the body in the time that the server gives it."""


#: Processor time for the chunks of a body, of `limit` bytes at most; a chunk costs 8 us. One-byte chunks would take 2 s
#: for 256 KiB. Bodies in chunks of 1 KiB and more stay below a tenth of it.
_CHUNKS_S = 0.2
_CHUNKS_S_FOR_A_BYTE = 2e-8

#: Chunks are read until there is so much, before the time is looked at.
_PIECE = 8192


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_body(request: HttpRequest, *, limit: int) -> bytes:
    """Return the body of a request, `limit` bytes at most; empty when the request has none.

    A chunked body is read from the server's own stream, because Django 5.2 reads as many bytes as Content-Length says
    and a chunked request has none.

    :raises BodyTooLarge: without reading when Content-Length is above `limit`, else as soon as more was read.
    :raises BodyTruncated: when less comes than Content-Length or the chunks announce, or reading fails.
    :raises BodyTooFragmented: when the chunks cost too much time.
    :raises BodyTooSlow: when the server's deadline for the request passes.
    """
    if request.META.get("HTTP_TRANSFER_ENCODING") and not request.META.get("CONTENT_LENGTH"):
        return _read_chunked(request, limit)
    return _read_sized(request, limit)


def _read_sized(request: HttpRequest, limit: int) -> bytes:
    length = _content_length(request)
    if length > limit:
        raise BodyTooLarge(f"{length} bytes announced, {limit} allowed")
    body = _read(request, length)
    if len(body) < length:
        raise BodyTruncated(f"{len(body)} of {length} bytes came")
    return body


def _read_chunked(request: HttpRequest, limit: int) -> bytes:
    # A server that does not end the stream where the body ends would let us wait for bytes that never come.
    if not request.META.get("wsgi.input_terminated"):
        raise BodyTruncated("a chunked body that the server does not delimit")
    allowed_s = time.thread_time() + _CHUNKS_S + limit * _CHUNKS_S_FOR_A_BYTE
    body = bytearray()
    while piece := _read(request.META["wsgi.input"], min(_PIECE, limit + 1 - len(body))):
        body += piece
        if len(body) > limit:
            raise BodyTooLarge(f"more than {limit} bytes in chunks")
        if time.thread_time() > allowed_s:
            raise BodyTooFragmented("too many small chunks")
    return bytes(body)


def _content_length(request: HttpRequest) -> int:
    """Return the announced length in bytes, 0 when there is none."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    try:
        length = int(announced)
    except ValueError:
        length = -1
    if length < 0:
        raise BodyTruncated("Content-Length is not a number of bytes")
    return length


def _read(stream: _Stream, size: int) -> bytes:
    """Read until there are `size` bytes or the stream ends."""
    body = bytearray()
    while len(body) < size:
        try:
            piece = stream.read(size - len(body))
        except Exception as error:  # noqa: BLE001
            if isinstance(error.__cause__ or error, TimeoutError):  # Django wraps what it reads itself
                raise BodyTooSlow("the body did not come in time") from None
            # Connection errors, and the server's own for broken chunks: no common base, and their texts quote the body.
            raise BodyTruncated(f"reading failed: {type(error).__name__}") from None
        if not piece:
            break
        body += piece
    return bytes(body)
