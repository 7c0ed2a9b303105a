"""Read the whole body of a request on the event loop, or refuse it."""

from dataclasses import dataclass
from typing import ClassVar

from django.conf import settings

from leadgateway.server.asgi_messages import Receive, Scope


class BodyError(Exception):
    """The body is refused. The text says why, for the sender."""

    status: ClassVar[int]
    #: The text of the error response.
    error: ClassVar[str]


class BodyTooLarge(BodyError):
    """The body exceeds the limit, by its Content-Length or by the bytes that were received."""

    status = 413
    error = "payload too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")


class BodyTruncated(BodyError):
    """The body ended before its announced length or within a chunk, or the connection broke."""

    status = 400
    error = "malformed JSON payload"

    def __init__(self) -> None:
        super().__init__("the body is shorter than announced")


class BodyTooFragmented(BodyError):
    """The body has so many small chunks that parsing them takes too much processor time."""

    status = 400
    error = "malformed JSON payload"

    def __init__(self) -> None:
        super().__init__("the body comes in too many small chunks")


class BodyTooSlow(BodyError):
    """The request was not received within WEB_READ_TIMEOUT."""

    status = 408
    error = "request timeout"

    def __init__(self) -> None:
        super().__init__(f"not received within {settings.WEB_READ_TIMEOUT.total_seconds():g} s")


@dataclass(slots=True)
class Reception:
    """How far the body of a request is received. It is `scope["state"]["reception"]`."""

    #: Whether the application has asked for the body.
    has_begun: bool = False
    #: Why no more of the body will be received.
    error: BodyError | None = None


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """Return the body of a request, empty when it has none.

    :param limit: maximum number of bytes.
    :raises BodyTooLarge: Content-Length exceeds `limit` (then nothing is read), or more bytes were received.
    :raises BodyError: the server did not receive the whole body.
    """
    if any(name == b"content-length" and int(value) > limit for name, value in scope["headers"]):
        raise BodyTooLarge(limit)
    reception: Reception = scope["state"]["reception"]
    reception.has_begun = True
    body = bytearray()
    is_complete = False
    while not is_complete:
        message = await receive()
        if reception.error:
            raise reception.error
        if message["type"] == "http.disconnect":
            raise BodyTruncated
        body += message["body"]
        if len(body) > limit:
            raise BodyTooLarge(limit)
        is_complete = not message["more_body"]
    return bytes(body)
