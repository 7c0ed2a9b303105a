"""Middleware: correlation ids, a log line for each request, traces, response headers, the admin's language."""

import time
import uuid
from collections.abc import Callable
from typing import cast

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import timezone, translation

from leadgateway import tracing
from leadgateway.logging import get_logger
from leadgateway.request import WEBHOOK_PATH, GatewayRequest
from leadgateway.server.request_metrics import WEBHOOK_SECONDS

log = get_logger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]

#: The specification promises senders an answer within 500 ms. A slower one is logged as a warning.
SLOW_MS = 500

_API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
_PERMISSIONS_POLICY = ", ".join(f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb"))
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class RequestContext:
    """Give each request a correlation id, bind the id to every log line, and log and measure the response.

    A sender's own X-Correlation-ID is used when it is a UUID. Query strings are not logged, because staff search by
    phone number.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, http_request: HttpRequest) -> HttpResponse:
        started = time.monotonic()
        request = cast(GatewayRequest, http_request)
        try:
            request.correlation_id = str(uuid.UUID(request.headers.get("X-Correlation-ID", "")))
        except ValueError:
            request.correlation_id = str(uuid.uuid4())
        request.source = request.lead_id = None
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=request.correlation_id)

        response = self.get_response(request)

        response["X-Correlation-ID"] = request.correlation_id
        seconds = time.monotonic() - started
        if _is_webhook(request):
            WEBHOOK_SECONDS.labels(response.status_code).observe(seconds)
        is_slow = seconds * 1000 > SLOW_MS
        write = log.error if response.status_code >= 500 else log.warning if is_slow else log.info
        write(
            "slow_request" if is_slow else "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            duration_ms=round(seconds * 1000, 1),
        )
        return response


class WebhookTracing:
    """Record a span for each request to the webhook. Only installed when tracing is configured."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, http_request: HttpRequest) -> HttpResponse:
        request = cast(GatewayRequest, http_request)
        if not _is_webhook(request):
            return self.get_response(request)
        attributes = {tracing.CORRELATION_ID: request.correlation_id}
        with tracing.span("webhook", "SERVER", attributes, linked_to=request.headers):
            response = self.get_response(request)
            is_error = response.status_code >= 500
            tracing.note(
                {tracing.HTTP_STATUS: response.status_code}, error=str(response.status_code) if is_error else None
            )
            if request.lead_id is not None:
                tracing.note({tracing.LEAD_ID: request.lead_id})
        return response


class AdminLocale(LocaleMiddleware):
    """Use the browser's language and ADMIN_TIME_ZONE in the admin; every other response is in English and UTC."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith("/admin"):
            return cast(HttpResponseBase, self.get_response(request))
        with timezone.override(settings.ADMIN_TIME_ZONE), translation.override(None):
            return cast(HttpResponseBase, super().__call__(request))


class ResponseHeaders:
    """Set the security headers of responses outside the admin, and let cookies work on the loopback address.

    A cookie for a plain request to the loopback address is sent without `Secure`, because it never leaves the machine
    and some browsers would drop it. Every other host needs TLS.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Permissions-Policy"] = _PERMISSIONS_POLICY
        if not request.path_info.startswith(("/admin", "/static")):
            response["Content-Security-Policy"] = _API_CONTENT_SECURITY_POLICY
            response["Cache-Control"] = "no-store"  # lead histories contain personal data
        host, _port = split_domain_port(request.META.get("HTTP_HOST", ""))
        if response.cookies and not request.is_secure() and host in _LOOPBACK_HOSTS:
            for cookie in response.cookies.values():
                cookie["secure"] = ""
        return response


def _is_webhook(request: HttpRequest) -> bool:
    return request.path_info.rstrip("/") == WEBHOOK_PATH
