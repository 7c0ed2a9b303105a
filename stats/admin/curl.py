"""cURL commands for the two requests of a lead: the sender's to the gateway, and the gateway's to the customer.

Secrets are shell variables. The body is a quoted here-document: the shell does not interpret it, and unlike an argument
it is not limited to 128 KB.
"""

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

from leads.models import InboundLead
from stats.admin.formatting import escape_invisible

_REDACTED = "REDACTED"


def post_to_gateway(url: str, payload: Any) -> str:
    """Return the command that posts a payload to the gateway like a sender."""
    return _command(url, ["Content-Type: application/json"], '"X-Shared-Secret: $SHARED_SECRET"', payload)


def post_to_customer(url: str, lead: InboundLead, payload: Any) -> str:
    """Return the command that sends a lead to the customer like the gateway."""
    headers = [
        "Content-Type: application/json",
        "Accept: application/json",
        f"Idempotency-Key: {lead.idempotency_key}",
        f"X-Correlation-ID: {lead.correlation_id}",
    ]
    return _command(_without_secrets(url), headers, '"Authorization: Bearer $CUSTOMER_API_TOKEN"', payload)


def _command(url: str, headers: list[str], secret: str, payload: Any) -> str:
    """Return a command.

    :param secret: a header in double quotes, into which the shell inserts a variable.
    """
    options = [f"-H {shlex.quote(header)}" for header in headers] + [f"-H {secret}", "--data-binary @- <<'JSON'"]
    return " \\\n  ".join([f"curl -sS -X POST {shlex.quote(url)}", *options]) + f"\n{_body(payload)}\nJSON"


def _body(payload: Any) -> str:
    """Return JSON in one line, with `!` escaped: an interactive shell expands its history even here."""
    return escape_invisible(json.dumps(payload, ensure_ascii=False)).replace("!", "\\u0021")


def _without_secrets(url: str) -> str:
    """Return a URL without user name, password and query, which may be credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _REDACTED  # the client cannot send to an invalid URL either
    query = _REDACTED if parts.query else ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()
