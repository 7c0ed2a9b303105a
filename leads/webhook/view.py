"""The webhook."""

from datetime import timedelta
from typing import cast

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from leadgateway import db, queue
from leadgateway.errors import ServiceUnavailable, error_response
from leadgateway.logging import get_logger
from leadgateway.request import GatewayRequest
from leadgateway.timeouts import Breaker
from leads.models import InboundLead
from leads.webhook.access import RateLimitThrottle, SharedSecretAuthentication
from leads.webhook.body import BodyTooFragmented, BodyTooLarge, BodyTooSlow, BodyTruncated, read_body
from leads.webhook.headers import stored_headers
from leads.webhook.intake import NewLead, Receipt, receive
from leads.webhook.strict_json import MalformedJSON, ParsedObject, parse_object

log = get_logger(__name__)

_breaker = Breaker(pause=timedelta(milliseconds=500))


class LeadWebhook(APIView):
    """POST /webhooks/leads: store the lead, enqueue it for the workers, respond."""

    authentication_classes = [SharedSecretAuthentication]
    throttle_classes = [RateLimitThrottle]
    http_method_names = ["post"]

    def post(self, drf_request: Request) -> HttpResponse:
        """Return 200 once the lead is committed. docs/senders.md lists every other response."""
        request = cast(GatewayRequest, drf_request._request)
        try:
            parsed = parse_object(read_body(request, limit=settings.MAX_PAYLOAD_BYTES))
        except BodyTooLarge:
            return _refuse(request, 413, "payload too large", f"more than {settings.MAX_PAYLOAD_BYTES} bytes")
        except BodyTruncated:
            return _refuse(request, 400, "malformed JSON payload", "the body is shorter than announced")
        except BodyTooFragmented:
            return _refuse(request, 400, "malformed JSON payload", "the body comes in too many small chunks")
        except BodyTooSlow:
            limit_s = settings.WEB_READ_TIMEOUT.total_seconds()
            return _refuse(request, 408, "request timeout", f"not received within {limit_s:g} s")
        except MalformedJSON as error:
            return _refuse(request, 400, "malformed JSON payload", str(error))
        receipt = _store(request, parsed)
        request.lead_id = receipt.lead_id
        structlog.contextvars.bind_contextvars(lead_id=receipt.lead_id)
        body = {"lead_id": receipt.lead_id, "status": receipt.status, "correlation_id": request.correlation_id}
        if receipt.duplicate:
            log.info("lead_received_again", status=receipt.status)
            return JsonResponse(body | {"duplicate": True})
        _enqueue(receipt.lead_id)
        log.info("lead_received")
        return JsonResponse(body)


def _refuse(request: GatewayRequest, status: int, error: str, detail: str) -> HttpResponse:
    log.info("lead_refused", status=status, reason=detail)
    response = error_response(request, status, error)
    response["X-Error-Detail"] = detail
    return response


def _store(request: GatewayRequest, parsed: ParsedObject) -> Receipt:
    """Store the lead within DATABASE_TIMEOUT.

    :raises ServiceUnavailable: the database is unavailable, or failed repeatedly a moment ago.
    """
    headers = stored_headers(request.headers)
    if _breaker.is_open:
        raise ServiceUnavailable("database error")
    try:
        with db.deadline(settings.DATABASE_TIMEOUT):
            receipt = receive(
                NewLead(
                    parsed=parsed,
                    headers=headers,
                    source=request.source,
                    correlation_id=request.correlation_id,
                    received_at=timezone.now(),
                ),
                dedup_window=settings.DEDUP_WINDOW,
            )
    except db.UNAVAILABLE as error:
        _breaker.failed()
        log.error("database_error", exc_info=error)
        raise ServiceUnavailable("database error") from error
    _breaker.succeeded()
    return receipt


def _enqueue(lead_id: int) -> None:
    """Enqueue a stored lead. When the queue is unavailable, the sweep enqueues it later.

    :raises ServiceUnavailable: the broker is unavailable. QUEUE_TYPE=database has no queue to wait for.
    """
    try:
        queue.enqueue([lead_id])
    except queue.QueueUnavailable as error:
        log.warning("enqueue_failed", reason=str(error))
        _leave_to_sweep(lead_id)
        if settings.QUEUE_TYPE != "database":
            raise ServiceUnavailable("queue unavailable") from error


def _leave_to_sweep(lead_id: int) -> None:
    """Clear `enqueued_at`, so that the next sweep enqueues the lead. Otherwise it waits for REQUEUE_AFTER."""
    try:
        with db.deadline(timedelta(milliseconds=100)):
            InboundLead.objects.filter(pk=lead_id, claim_token=None).update(enqueued_at=None)
    except DatabaseError:
        log.warning("enqueued_at_not_cleared")
