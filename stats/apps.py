from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from leadgateway.server.signals import web_worker_started


class StatsConfig(AppConfig):
    name = "stats"
    verbose_name = _("Statistics")

    def ready(self) -> None:
        """Start heartbeats and monitor threads when a web worker, a worker or beat starts."""
        from stats.monitoring import (
            heartbeat,  # noqa: F401 (connects to Celery's signals)
            monitor_thread,
        )

        def start_monitor_thread(**_: Any) -> None:
            monitor_thread.start()

        web_worker_started.connect(start_monitor_thread, weak=False)
