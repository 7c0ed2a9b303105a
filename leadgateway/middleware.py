"""What every request gets: ids on its log lines, a line for its answer, headers and cookies that suit who asked."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.utils import timezone, translation

from leadgateway import tracing
from leadgateway.logging import get_logger
from leadgateway.server import request_metrics

log = get_logger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]

#: The seed's promise to senders. An answer that took longer is logged as slow.
SLOW_MS = 500

_WEBHOOK = "/webhooks/leads"

_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
_NO_DEVICES = ", ".join(f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb"))

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class RequestContext:
    """Give the request a correlation id, bind it to every log line, and log the answer; a sender's is measured, too.

    The sender's own X-Correlation-ID is kept when it is a UUID. Query strings are not logged: staff search by phone.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.monotonic()
        request.correlation_id = _correlation_id(request)  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=request.correlation_id)  # type: ignore[attr-defined]
        is_of_a_sender = request.path_info.rstrip("/") == _WEBHOOK
        response = self._traced(request) if is_of_a_sender else self.get_response(request)
        response["X-Correlation-ID"] = request.correlation_id  # type: ignore[attr-defined]
        seconds = time.monotonic() - started
        if is_of_a_sender:
            request_metrics.record_webhook_response(response.status_code, seconds)
        _log_answer(request, response, seconds * 1000)
        return response

    def _traced(self, request: HttpRequest) -> HttpResponse:
        told = {tracing.CORRELATION_ID: request.correlation_id}  # type: ignore[attr-defined]
        with tracing.span("webhook", "SERVER", told, after=request.headers):
            response = self.get_response(request)
            tracing.note({tracing.HTTP_STATUS: response.status_code})
            if response.status_code >= 500:
                tracing.failed(str(response.status_code))
        return response


class AdminLocale(LocaleMiddleware):
    """Speak the browser's language in the admin, and tell times by ADMIN_TIME_ZONE; senders always get the same."""

    def __call__(self, request: HttpRequest) -> Any:
        if not request.path_info.startswith("/admin"):
            return self.get_response(request)
        with timezone.override(settings.ADMIN_TIME_ZONE), translation.override(None):
            return super().__call__(request)


class AnswerHeaders:
    """Tell browsers to do nothing with what programs are answered, and to offer no page the machine's devices."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Permissions-Policy"] = _NO_DEVICES
        if not request.path_info.startswith(("/admin", "/static")):
            response["Content-Security-Policy"] = _NO_PAGE
            response["Cache-Control"] = "no-store"  # statistics tell of people
        return response


class LoopbackCookies:
    """Let cookies of a plain request to the loopback address go without `Secure`: they never leave the machine.

    So the admin of `make run` works in every browser, while a cookie for any other host needs TLS.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.cookies and not request.is_secure() and _host(request) in _LOOPBACK:
            for cookie in response.cookies.values():
                cookie["secure"] = ""
        return response


def _host(request: HttpRequest) -> str:
    host: str = request.META.get("HTTP_HOST", "")
    return host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host


def _correlation_id(request: HttpRequest) -> str:
    try:
        return str(uuid.UUID(request.headers.get("X-Correlation-ID", "")))
    except ValueError:
        return str(uuid.uuid4())


def _log_answer(request: HttpRequest, response: HttpResponse, duration_ms: float) -> None:
    slow = duration_ms > SLOW_MS
    write = log.error if response.status_code >= 500 else log.warning if slow else log.info
    write(
        "slow_request" if slow else "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        duration_ms=round(duration_ms, 1),
    )
