"""The bytes of a request, whole or not at all: what Django accepts cut short is refused, what it cannot see is read."""

from typing import Protocol

from django.http import HttpRequest


class BodyTooLarge(Exception):
    """The body is larger than the limit, by its Content-Length or by what was read of it."""


class BodyTruncated(Exception):
    """The body is not all there: it ended before its length or in the middle of a chunk, or could not be read."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_body(request: HttpRequest, *, limit: int) -> bytes:
    """Return the body of a request, `limit` bytes at most; empty when the request has none.

    A chunked body is read from the server's own stream, because Django 5.2 reads as many bytes as Content-Length says
    and a chunked request has none.

    :raises BodyTooLarge: without reading when Content-Length is above `limit`, else as soon as more was read.
    :raises BodyTruncated: when less comes than Content-Length or the chunks announce, or reading fails.
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
    body = _read(request.META["wsgi.input"], limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"more than {limit} bytes in chunks")
    return body


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
            # Connection errors, and the server's own for broken chunks: no common base, and their texts quote the body.
            raise BodyTruncated(f"reading failed: {type(error).__name__}") from None
        if not piece:
            break
        body += piece
    return bytes(body)
