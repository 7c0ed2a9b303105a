"""ASGI's messages, and Django's responses as such messages."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.http.response import HttpResponse, HttpResponseBase

Scope = Mapping[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def encoded(headers: Mapping[str, str]) -> Headers:
    """Return headers as ASGI wants them."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def start_of(response: HttpResponseBase) -> Message:
    """Return the message that begins a response."""
    headers = encoded(response.headers)
    headers += [(b"set-cookie", cookie.OutputString().encode("ascii")) for cookie in response.cookies.values()]
    if isinstance(response, HttpResponse) and "Content-Length" not in response.headers:
        headers.append((b"content-length", b"%d" % len(response.content)))
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
