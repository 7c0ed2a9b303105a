"""Checks of the way to the customer, up to the door: no request is sent."""

import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from delivery.client import check_url
from stats.monitoring.doctor.finding import Finding, fail, ok, warn

_TIMEOUT_S = 3.0
_PORTS = {"http": 80, "https": 443}

#: The values in the seed's documentation and in our defaults.
_PLACEHOLDERS = ("FakeCustomerToken", "your_bearer_token_here")


def address() -> Iterator[Finding]:
    """Look at the form of CUSTOMER_API_URL."""
    if problem := check_url(settings.CUSTOMER_API_URL):
        yield fail("CUSTOMER_API_URL", problem, "No process starts with it.")
        return
    parts = urlsplit(settings.CUSTOMER_API_URL)
    found = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme != "https" and not _is_this_machine(parts.hostname or ""):
        yield warn("CUSTOMER_API_URL", found, "Leads are personal data and the token is a secret: use https.")
    else:
        yield ok("CUSTOMER_API_URL", found)


def connection() -> Iterator[Finding]:
    """Resolve the customer's name, connect, and shake hands when it is https."""
    if check_url(settings.CUSTOMER_API_URL):
        return
    parts = urlsplit(settings.CUSTOMER_API_URL)
    started = time.perf_counter()
    try:
        how = _connect(parts)
    except (OSError, ssl.SSLError) as error:
        yield fail(
            "customer", f"{parts.hostname}: {_step(error)}: {error}", "Attempts fail and are repeated until it is back."
        )
    else:
        yield ok("customer", f"{how} in {(time.perf_counter() - started) * 1000:.0f} ms; no request was sent")


def token() -> Iterator[Finding]:
    """See whether CUSTOMER_API_TOKEN was set; its value is never shown."""
    if not settings.CUSTOMER_API_TOKEN or settings.CUSTOMER_API_TOKEN in _PLACEHOLDERS:
        yield warn("CUSTOMER_API_TOKEN", "not set, or a placeholder", "Set the token that the customer gave you.")
    else:
        yield ok("CUSTOMER_API_TOKEN", "set")


def _connect(parts: SplitResult) -> str:
    """Connect and hang up; return what was achieved.

    :raises OSError: at whichever step it ended.
    """
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain:
        if parts.scheme != "https":
            return f"{host}:{port} connected"
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as encrypted:
            return f"{host}:{port} connected, {encrypted.version()}, certificate valid"


def _step(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    return "no TLS" if isinstance(error, ssl.SSLError) else "no connection"


def _is_this_machine(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")
