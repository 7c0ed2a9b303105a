"""The webhook."""

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
            parsed = parse_object(await read_body(request.scope, request.receive, limit=settings.MAX_PAYLOAD_BYTES))
        except BodyError as error:
            return _refuse(request, error.status, error.error, str(error))
        except MalformedJSON as error:
            return _refuse(request, 400, "malformed JSON payload", str(error))
        lead = NewLead(
            parsed=parsed,
            headers=stored_headers(request.headers),
            source=request.source,
            correlation_id=request.correlation_id,
            received_at=timezone.now(),
        )
        receipt = await self.writer.store(lead)
        request.lead_id = receipt.lead_id
        structlog.contextvars.bind_contextvars(lead_id=receipt.lead_id)
        body = {"lead_id": receipt.lead_id, "status": receipt.status, "correlation_id": request.correlation_id}
        request.log_event = "lead_received_again" if receipt.duplicate else "lead_received"
        return JsonResponse(body | {"duplicate": True} if receipt.duplicate else body)


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
