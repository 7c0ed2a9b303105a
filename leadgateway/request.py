"""The request that every view gets: Django's own with the attributes that our middleware and authentication set."""

from django.http import HttpRequest

#: The path that senders post leads to. A slash at the end is accepted, too.
WEBHOOK_PATH = "/webhooks/leads"


class GatewayRequest(HttpRequest):
    """A request as `leadgateway.middleware.RequestContext` passes it on. A type for `cast`, never instantiated."""

    #: A UUID: the sender's X-Correlation-ID, or a new one.
    correlation_id: str
    #: The name of the sender's secret, set by authentication; None without authentication.
    source: str | None
    #: The lead that this request created or repeated, set by the webhook.
    lead_id: int | None
