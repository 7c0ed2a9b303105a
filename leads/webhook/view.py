"""The webhook."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from leadgateway import db, queue, tracing
from leadgateway.breaker import Breaker
from leadgateway.errors import ServiceUnavailable, error_response
from leadgateway.logging import get_logger
from leads.models import InboundLead
from leads.webhook.authentication import SharedSecretAuthentication, source_of
from leads.webhook.body import BodyTooFragmented, BodyTooLarge, BodyTooSlow, BodyTruncated, read_body
from leads.webhook.headers import stored_headers
from leads.webhook.intake import Receipt, receive
from leads.webhook.rate_limits import PostThrottle
from leads.webhook.strict_json import MalformedJSON, ParsedObject, parse_object

log = get_logger(__name__)

_breaker = Breaker(pause=timedelta(milliseconds=500))


class LeadWebhook(APIView):
    """POST /webhooks/leads: store the lead, ring for a worker, answer."""

    authentication_classes = [SharedSecretAuthentication]
    throttle_classes = [PostThrottle]
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        """Answer 200 once the lead is committed; see README, «The webhook», for every other answer."""
        plain = request._request
        try:
            parsed = parse_object(read_body(plain, limit=settings.MAX_PAYLOAD_BYTES))
        except BodyTooLarge:
            return _refuse(plain, 413, "payload too large", f"more than {settings.MAX_PAYLOAD_BYTES} bytes")
        except BodyTruncated:
            return _refuse(plain, 400, "malformed JSON payload", "the body is shorter than announced")
        except BodyTooFragmented:
            return _refuse(plain, 400, "malformed JSON payload", "the body comes in too many small chunks")
        except BodyTooSlow:
            return _refuse(plain, 408, "request timeout", f"not here within {_seconds(settings.WEB_READ_TIMEOUT)} s")
        except MalformedJSON as error:
            return _refuse(plain, 400, "malformed JSON payload", str(error))
        receipt = _store(plain, parsed)
        structlog.contextvars.bind_contextvars(lead_id=receipt.lead_id)
        tracing.note({tracing.LEAD_ID: receipt.lead_id})
        if receipt.duplicate:
            log.info("lead_received_again", status=receipt.status)
        else:
            _enqueue(receipt)
            log.info("lead_received")
        return _answer(plain, receipt)


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():g}"


def _refuse(request: HttpRequest, status: int, error: str, detail: str) -> HttpResponse:
    log.info("lead_refused", status=status, reason=detail)
    response = error_response(request, status, error)
    response["X-Error-Detail"] = detail
    return response


def _store(request: HttpRequest, parsed: ParsedObject) -> Receipt:
    if _breaker.is_open:
        raise ServiceUnavailable("database error")
    try:
        with db.deadline(settings.DATABASE_TIMEOUT):
            receipt = receive(
                parsed,
                headers=stored_headers(request.headers),
                source=source_of(request) if settings.ENABLE_AUTH else None,
                correlation_id=request.correlation_id,  # type: ignore[attr-defined]
                now=timezone.now(),
                dedup_window=settings.DEDUP_WINDOW,
            )
    except db.UNAVAILABLE as error:
        _breaker.failed()
        log.error("database_error", exc_info=error)
        raise ServiceUnavailable("database error") from error
    _breaker.succeeded()
    return receipt


def _enqueue(receipt: Receipt) -> None:
    """Ring for a worker. The lead is safe already: when the queue is away, the sweep delivers it later."""
    try:
        queue.enqueue(receipt.lead_id)
    except queue.QueueUnavailable as error:
        log.warning("enqueue_failed", reason=str(error))
        _leave_to_the_sweep(receipt.lead_id)
        if settings.QUEUE_TYPE == "redis":
            raise ServiceUnavailable("queue unavailable") from error


def _leave_to_the_sweep(lead_id: int) -> None:
    try:
        with db.deadline(timedelta(milliseconds=100)):
            InboundLead.objects.filter(pk=lead_id, claim_token=None).update(enqueued_at=None)
    except DatabaseError:
        log.warning("enqueued_at_not_cleared")  # the sweep rings again all the same, only later


def _answer(request: HttpRequest, receipt: Receipt) -> HttpResponse:
    body = {
        "lead_id": receipt.lead_id,
        "status": receipt.status,
        "correlation_id": request.correlation_id,  # type: ignore[attr-defined]
    }
    return JsonResponse(body | ({"duplicate": True} if receipt.duplicate else {}))
