"""What each web process measures by itself: how long senders wait. Everything else is read from the database.

gunicorn's processes write it into files of one directory, and whichever is asked adds them up.
"""

import os

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

#: The library's own variable; set by gunicorn.py before this module is imported.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

_registry = CollectorRegistry()

_webhook = Histogram(
    "lead_gateway_webhook_seconds",
    "How long senders waited for an answer of the webhook, by its HTTP status.",
    ["status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10),
    registry=_registry,
)
# From the start, since Prometheus sees no increase in a series that begins at 1.
for _status in (200, 400, 401, 405, 408, 413, 429, 500, 503):
    _webhook.labels(_status)


def record_webhook_response(status: int, seconds: float) -> None:
    """Note an answer to a sender."""
    _webhook.labels(status).observe(seconds)


def measured() -> CollectorRegistry:
    """Return what all processes of this web server have measured since it started."""
    if not os.environ.get(DIRECTORY):
        return _registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)
    return shared
