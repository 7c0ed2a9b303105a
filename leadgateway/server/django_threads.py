"""Serve everything but the webhook with Django, in threads."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from leadgateway.request import GatewayRequest
from leadgateway.server.asgi_messages import Receive, Scope, Send, start_of
from leadgateway.server.body import BodyError, read_body

#: Runs a function in the thread of a request.
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class DjangoInThreads(BaseHandler):
    """Django's synchronous handler. At most `limit` requests are processed at the same time.

    Each request has a thread of its own, also for the parts of a streaming response, because a database transaction
    belongs to its thread. A request that waits for its sender is not counted. Django's ASGI handler would collect a
    streaming response in memory, and would change threads several times for each request.
    """

    def __init__(self, *, limit: int) -> None:
        super().__init__()
        self.load_middleware()
        self._slots = asyncio.Semaphore(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, as ASGI defines it."""
        body, error = b"", None
        try:
            body = await read_body(scope, receive, limit=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        except BodyError as refused:
            error = refused
        thread = ThreadPoolExecutor(1)
        try:
            await self._handle(partial(self._respond, scope, body, error), partial(self._run, thread), receive, send)
        finally:
            thread.shutdown(wait=False)

    async def _handle(self, respond: Callable[[], HttpResponseBase], run: Run, receive: Receive, send: Send) -> None:
        response = await run(respond)
        try:
            await send(start_of(response))
            if isinstance(response, HttpResponse):
                await send({"type": "http.response.body", "body": response.content})
            else:
                await self._stream(response, run, receive, send)
        finally:
            await run(response.close)

    async def _run(self, thread: ThreadPoolExecutor, job: Callable[[], Any]) -> Any:
        async with self._slots:
            return await asyncio.get_running_loop().run_in_executor(thread, job)

    def _respond(self, scope: Scope, body: bytes, error: BodyError | None) -> HttpResponseBase:
        signals.request_started.send(sender=self.__class__, scope=scope)
        request = cast(GatewayRequest, ASGIRequest(scope, BytesIO(body)))
        request.body_error = error
        response: Any = self.get_response(request)
        response._handler_class = self.__class__  # its close() sends request_finished
        return cast(HttpResponseBase, response)

    async def _stream(self, response: HttpResponseBase, run: Run, receive: Receive, send: Send) -> None:
        """Send one part after the other, until the end or until the sender has disconnected."""
        parts = iter(response)
        disconnected = asyncio.ensure_future(receive())
        try:
            while not disconnected.done() and (part := await run(partial(next, parts, None))) is not None:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        finally:
            disconnected.cancel()
        await send({"type": "http.response.body", "body": b""})
