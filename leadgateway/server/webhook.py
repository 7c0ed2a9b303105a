"""Serve the webhook on the event loop, with what its senders need and nothing else."""

from io import BytesIO
from typing import cast

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import response_for_exception
from django.http import HttpResponse
from django.urls import resolve

from leadgateway import tracing
from leadgateway.middleware import API_HEADERS
from leadgateway.request import WEBHOOK_PATH, GatewayRequest
from leadgateway.request_log import RequestLog
from leadgateway.server.asgi_messages import Receive, Scope, Send, encoded, start_of
from leadgateway.server.request_metrics import WEBHOOK_SECONDS

PATHS = (WEBHOOK_PATH, f"{WEBHOOK_PATH}/")

#: The headers of other responses come from our and from Django's middleware.
_HEADERS = encoded(
    {
        **API_HEADERS,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": settings.X_FRAME_OPTIONS,
        "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
        "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
    }
)
_TLS_HEADERS = [
    *_HEADERS,
    *encoded({"Strict-Transport-Security": f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains"}),
]


class WebhookHandler:
    """Calls the asynchronous view of the webhook. Django's own handler needs several times as long."""

    def __init__(self) -> None:
        self._view = resolve(WEBHOOK_PATH).func

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, as ASGI defines it."""
        request = cast(GatewayRequest, ASGIRequest(scope, BytesIO()))
        request.receive = receive
        log = RequestLog(request)
        attributes = {tracing.CORRELATION_ID: request.correlation_id}
        with tracing.span("webhook", "SERVER", attributes, linked_to=request.headers):
            response = await self._respond(request)
            is_error = response.status_code >= 500
            tracing.note(
                {tracing.HTTP_STATUS: response.status_code}, error=str(response.status_code) if is_error else None
            )
            if request.lead_id is not None:
                tracing.note({tracing.LEAD_ID: request.lead_id})
        WEBHOOK_SECONDS.labels(response.status_code).observe(log.end(response))
        start = start_of(response)
        start["headers"] += _TLS_HEADERS if scope["scheme"] == "https" else _HEADERS
        if "HTTP_EXPECT" in request.META and not scope["state"]["reception"].has_begun:
            # The sender may or may not send the body, so the connection cannot be reused.
            start["headers"].append((b"connection", b"close"))
        await send(start)
        await send({"type": "http.response.body", "body": response.content})

    async def _respond(self, request: GatewayRequest) -> HttpResponse:
        try:
            request.get_host()
            response: HttpResponse = await self._view(request)
        except Exception as error:  # noqa: BLE001 (as Django's handler does)
            response = response_for_exception(request, error)
        return response
