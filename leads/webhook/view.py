"""The webhook."""

import asyncio
from typing import ClassVar, cast

import structlog
from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from rest_framework.request import Request

from leadgateway.async_view import AsyncAPIView
from leadgateway.errors import error_response
from leadgateway.logging import get_logger
from leadgateway.request import GatewayRequest
from leadgateway.server.body import BodyError, read_body
from leads.webhook.access import RateLimitThrottle, SharedSecretAuthentication, close_limiter
from leads.webhook.headers import stored_headers
from leads.webhook.intake import NewLead
from leads.webhook.strict_json import MalformedJSON, parse_object
from leads.webhook.writer import Writer

log = get_logger(__name__)

#: A larger request is read in a thread. The largest ones take 15 ms, and many headers up to half a second.
_SMALL_BYTES = 16 * 1024


class LeadWebhook(AsyncAPIView):
    """POST /webhooks/leads: store the lead, enqueue it for the workers, respond."""

    authentication_classes = [SharedSecretAuthentication]
    throttle_classes = [RateLimitThrottle]
    http_method_names = ["post"]
    #: Stores the leads of this process.
    writer: ClassVar[Writer]

    async def post(self, drf_request: Request) -> HttpResponse:
        """Return 200 once the lead is committed. docs/senders.md lists every other response."""
        request = cast(GatewayRequest, drf_request._request)
        try:
            body = await read_body(request.scope, request.receive, limit=settings.MAX_PAYLOAD_BYTES)
            lead = _lead(request, body) if _is_small(request, body) else await asyncio.to_thread(_lead, request, body)
        except BodyError as error:
            return _refuse(request, error.status, error.error, str(error))
        except MalformedJSON as error:
            return _refuse(request, 400, "malformed JSON payload", str(error))
        receipt = await self.writer.store(lead)
        request.lead_id = receipt.lead_id
        structlog.contextvars.bind_contextvars(lead_id=receipt.lead_id)
        content = {"lead_id": receipt.lead_id, "status": receipt.status, "correlation_id": request.correlation_id}
        request.log_event = "lead_received_again" if receipt.duplicate else "lead_received"
        return JsonResponse(content | {"duplicate": True} if receipt.duplicate else content)


def _is_small(request: GatewayRequest, body: bytes) -> bool:
    """Return whether a request is read so fast that the event loop can wait for it."""
    return len(body) + sum(len(value) for _, value in request.scope["headers"]) < _SMALL_BYTES


def _lead(request: GatewayRequest, body: bytes) -> NewLead:
    """Return the lead that a request contains.

    :raises MalformedJSON: the body is not one acceptable JSON object.
    """
    return NewLead(
        parsed=parse_object(body),
        headers=stored_headers(request.headers),
        source=request.source,
        correlation_id=request.correlation_id,
        received_at=timezone.now(),
    )


def _refuse(request: GatewayRequest, status: int, error: str, detail: str) -> HttpResponse:
    log.info("lead_refused", status=status, reason=detail)
    response = error_response(request, status, error)
    response["X-Error-Detail"] = detail
    return response


async def start_writer() -> None:
    """Start the writer of this process, on its event loop."""
    LeadWebhook.writer = Writer()
    await LeadWebhook.writer.start()


async def stop_writer() -> None:
    """Stop the writer of this process, after the leads that it has are stored."""
    await LeadWebhook.writer.stop()
    await close_limiter()
