"""The request that every view gets: Django's own with the attributes that our middleware and authentication set."""

from django.core.handlers.asgi import ASGIRequest

from leadgateway.server.asgi_messages import Receive
from leadgateway.server.body import BodyError

#: The path that senders post leads to. A slash at the end is accepted, too.
WEBHOOK_PATH = "/webhooks/leads"


class GatewayRequest(ASGIRequest):
    """A request as the handlers in `leadgateway.server` pass it on. A type for `cast`, never instantiated."""

    #: Returns the next part of the body, as ASGI defines it. Only for the webhook, which reads its body itself.
    receive: Receive
    #: Why the body was not received. Only for requests that are not the webhook's.
    body_error: BodyError | None

    #: A UUID: the sender's X-Correlation-ID, or a new one.
    correlation_id: str
    #: The name of the sender's secret, set by authentication; None without authentication.
    source: str | None
    #: The lead that this request created or repeated, set by the webhook.
    lead_id: int | None
    #: The event of the log line about the response, unless the response was slow.
    log_event: str
