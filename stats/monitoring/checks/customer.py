"""Checks of what is needed to deliver to the customer. They connect but send no request."""

import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from delivery.client import check_url
from delivery.mapping import MappingError, load_mapping
from leadgateway.dependencies import shown_path
from stats.monitoring.checks.check import Check, Consumer
from stats.monitoring.checks.result import CheckResult, failure, ok, warning

_TIMEOUT_S = 3.0
_PORTS = {"http": 80, "https": 443}

#: The part of the default URL that stands for a value of the customer.
_URL_PLACEHOLDER = "USER_ID"

#: The values in the documentation of the specification and in our defaults.
_TOKEN_PLACEHOLDERS = ("FakeCustomerToken", "your_bearer_token_here")


def mapping() -> Iterator[CheckResult]:
    """Check that the mapping file is valid."""
    file = shown_path(settings.ATTRIBUTE_MAPPING_FILE)
    try:
        loaded = load_mapping(settings.ATTRIBUTE_MAPPING_FILE)
    except MappingError as error:
        yield failure("mapping", file=file, error=str(error))
    else:
        yield ok("mapping", file=file, attributes=len(loaded.rules), sha256=loaded.sha256)


def address() -> Iterator[CheckResult]:
    """Check that CUSTOMER_API_URL is valid and uses https."""
    if problem := check_url(settings.CUSTOMER_API_URL):
        yield failure("CUSTOMER_API_URL", problem=problem)
        return
    parts = urlsplit(settings.CUSTOMER_API_URL)
    url = f"{parts.scheme}://{parts.netloc}"
    if _URL_PLACEHOLDER in parts.path:
        yield warning("CUSTOMER_API_URL", code="placeholder", url=url)
        return
    make = ok if parts.scheme == "https" or _is_local(parts.hostname or "") else warning
    yield make("CUSTOMER_API_URL", url=url)


def token() -> Iterator[CheckResult]:
    """Check that CUSTOMER_API_TOKEN is set, without showing it."""
    is_set = settings.CUSTOMER_API_TOKEN and settings.CUSTOMER_API_TOKEN not in _TOKEN_PLACEHOLDERS
    yield ok("CUSTOMER_API_TOKEN") if is_set else warning("CUSTOMER_API_TOKEN")


def connection() -> Iterator[CheckResult]:
    """Resolve the customer's host name, connect, and for https do the TLS handshake."""
    parts = urlsplit(settings.CUSTOMER_API_URL)
    if check_url(settings.CUSTOMER_API_URL) or _URL_PLACEHOLDER in parts.path:
        return  # reported by `address`
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    started = time.perf_counter()
    try:
        tls = _connect(parts, host, port)
    except OSError as error:  # ssl.SSLError is one
        yield failure("customer_connection", code=_code(error), host=host, error=str(error))
    else:
        took_ms = round((time.perf_counter() - started) * 1000)
        code = {"code": "tls_ok"} if tls else {}
        yield ok("customer_connection", host=host, port=port, tls=tls, took_ms=took_ms, **code)


def _connect(parts: SplitResult, host: str, port: int) -> str | None:
    """Connect and close; return the version of TLS, None for http.

    :raises OSError: a step failed.
    """
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain:
        if parts.scheme != "https":
            return None
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as encrypted:
            return encrypted.version()


def _code(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "host_not_found"
    return "tls" if isinstance(error, ssl.SSLError) else "no_connection"


def _is_local(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


CHECKS = (
    Check("mapping", mapping, used_by=Consumer.READINESS | Consumer.DOCTOR),
    Check("CUSTOMER_API_URL", address),
    Check("CUSTOMER_API_TOKEN", token),
    Check("customer_connection", connection),
)
