"""The correlation id of a request, and the log line of its response."""

import time
import uuid
from typing import cast

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from leadgateway.logging import get_logger
from leadgateway.request import GatewayRequest

log = get_logger(__name__)

#: The specification promises senders an answer within 500 ms. A slower one is logged as a warning.
SLOW_MS = 500


class RequestLog:
    """Gives a request a correlation id, binds the id to every log line, and logs the response.

    A sender's own X-Correlation-ID is used when it is a UUID. Query strings are not logged, because staff search by
    phone number.
    """

    def __init__(self, http_request: HttpRequest) -> None:
        self._started = time.monotonic()
        self._request = request = cast(GatewayRequest, http_request)
        try:
            request.correlation_id = str(uuid.UUID(request.META.get("HTTP_X_CORRELATION_ID", "")))
        except ValueError:
            request.correlation_id = str(uuid.uuid4())
        request.source = request.lead_id = None
        request.log_event = "request"
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=request.correlation_id)

    def end(self, response: HttpResponseBase) -> float:
        """Log the response, and return how long it took in seconds."""
        response["X-Correlation-ID"] = self._request.correlation_id
        seconds = time.monotonic() - self._started
        is_slow = seconds * 1000 > SLOW_MS
        write = log.error if response.status_code >= 500 else log.warning if is_slow else log.info
        write(
            "slow_request" if is_slow else self._request.log_event,
            method=self._request.method,
            path=self._request.path,
            status=response.status_code,
            duration_ms=round(seconds * 1000, 1),
        )
        return seconds
