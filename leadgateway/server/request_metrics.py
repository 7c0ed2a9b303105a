"""The metrics that each web process measures itself. All other metrics are read from the database.

The processes write their measurements to files in one directory, and the process that is scraped adds them up.
"""

import os

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

#: prometheus_client's own variable. `leadgateway.server.config` sets it before this module is imported.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

_registry = CollectorRegistry()

#: Observed by `leadgateway.server.webhook.WebhookHandler`.
WEBHOOK_SECONDS = Histogram(
    "lead_gateway_webhook_seconds",
    "Response time of the webhook, by HTTP status.",
    ["status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10),
    registry=_registry,
)
# Create every series at 0: Prometheus sees no increase in a series that begins at 1.
for _status in (200, 400, 401, 405, 408, 413, 429, 500, 503):
    WEBHOOK_SECONDS.labels(_status)


def measured() -> CollectorRegistry:
    """Return the measurements of all processes of this web server since it started."""
    if not os.environ.get(DIRECTORY):
        return _registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared
