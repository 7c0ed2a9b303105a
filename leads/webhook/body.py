"""Read the whole body of a request or refuse it. Django accepts truncated bodies and does not read chunked ones."""

import time
from collections.abc import Callable

from django.http import HttpRequest


class BodyTooLarge(Exception):
    """The body exceeds the limit, by its Content-Length or by the bytes that were read."""


class BodyTruncated(Exception):
    """The body ended before its announced length or within a chunk, or could not be read."""


class BodyTooFragmented(Exception):
    """The body has so many small chunks that parsing them takes too much processor time."""


class BodyTooSlow(Exception):
    """The body was not received before the server's deadline."""


#: Processor time for reading a chunked body, plus a share for each byte of the limit. A chunk takes 8 us, so that
#: 256 KiB in one-byte chunks would take 2 s. Chunks of 1 KiB or more need less than a tenth of the allowed time.
_CHUNKED_S = 0.2
_CHUNKED_S_PER_BYTE = 2e-8

#: Bytes of a chunked body to read before checking the time.
_BLOCK_SIZE = 8192


def read_body(request: HttpRequest, *, limit: int) -> bytes:
    """Return the body of a request, empty when it has none.

    :param limit: maximum number of bytes.
    :raises BodyTooLarge: Content-Length exceeds `limit` (then nothing is read), or more bytes were read.
    :raises BodyTruncated: fewer bytes came than announced, or reading failed.
    :raises BodyTooFragmented: the chunks take too much processor time.
    :raises BodyTooSlow: the server's deadline for the request has passed.
    """
    announced = request.META.get("CONTENT_LENGTH")
    if request.META.get("HTTP_TRANSFER_ENCODING") and not announced:
        return _read_chunked(request, limit)
    try:
        length = int(announced or 0)
    except ValueError:
        length = -1
    if length < 0:
        raise BodyTruncated("Content-Length is not a number of bytes")
    if length > limit:
        raise BodyTooLarge(f"{length} bytes announced, {limit} allowed")
    body = _read(request.read, length)
    if len(body) < length:
        raise BodyTruncated(f"{len(body)} of {length} bytes received")
    return body


def _read_chunked(request: HttpRequest, limit: int) -> bytes:
    # Django reads as many bytes as Content-Length says, so read from the server's own stream, if it ends with the body.
    if not request.META.get("wsgi.input_terminated"):
        raise BodyTruncated("the server does not delimit chunked bodies")
    ends_at = time.thread_time() + _CHUNKED_S + limit * _CHUNKED_S_PER_BYTE
    body = bytearray()
    while block := _read(request.META["wsgi.input"].read, min(_BLOCK_SIZE, limit + 1 - len(body))):
        body += block
        if len(body) > limit:
            raise BodyTooLarge(f"more than {limit} bytes in chunks")
        if time.thread_time() > ends_at:
            raise BodyTooFragmented("too many small chunks")
    return bytes(body)


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    """Return `size` bytes, or fewer when the stream ends."""
    body = bytearray()
    while len(body) < size:
        try:
            block = read(size - len(body))
        except Exception as error:  # noqa: BLE001
            if isinstance(error.__cause__ or error, TimeoutError):  # Django wraps the errors of its own stream
                raise BodyTooSlow("the body was not received in time") from None
            # The connection's errors and the server's for broken chunks have no common base class, and quote the body.
            raise BodyTruncated(f"reading failed: {type(error).__name__}") from None
        if not block:
            break
        body += block
    return bytes(body)
