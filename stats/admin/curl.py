"""A lead's two requests as commands for a terminal: the sender's to the gateway, and the gateway's to the customer.

Secrets are names of shell variables. The body is a here-document: an argument ends at 128 KB, and whatever is in the
JSON, no shell reads it.
"""

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

from leads.models import InboundLead
from stats.admin.formatting import visible

_REDACTED = "REDACTED"


def post_to_gateway(url: str, payload: Any) -> str:
    """Return the command that posts a payload to the gateway as a sender does."""
    return _command(url, ["Content-Type: application/json"], '"X-Shared-Secret: $SHARED_SECRET"', payload)


def post_to_customer(url: str, lead: InboundLead, payload: Any) -> str:
    """Return the command that sends a lead to the customer as the gateway does."""
    headers = [
        "Content-Type: application/json",
        "Accept: application/json",
        f"Idempotency-Key: {lead.idempotency_key}",
        f"X-Correlation-ID: {lead.correlation_id}",
    ]
    return _command(_without_secrets(url), headers, '"Authorization: Bearer $CUSTOMER_API_TOKEN"', payload)


def _command(url: str, headers: list[str], secret: str, payload: Any) -> str:
    """Return a command; `secret` is a header in double quotes, in which the shell puts a variable's value."""
    options = [f"-H {shlex.quote(header)}" for header in headers] + [f"-H {secret}", "--data-binary @- <<'JSON'"]
    return " \\\n  ".join([f"curl -sS -X POST {shlex.quote(url)}", *options]) + f"\n{_body(payload)}\nJSON"


def _body(payload: Any) -> str:
    """Return JSON in one line, without what an interactive shell acts upon even here: the ! of its history."""
    return visible(json.dumps(payload, ensure_ascii=False)).replace("!", "\\u0021")


def _without_secrets(url: str) -> str:
    """Return a URL without user name, password and query, each of which may be a credential."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _REDACTED  # nothing could be sent there either
    query = _REDACTED if parts.query else ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()
