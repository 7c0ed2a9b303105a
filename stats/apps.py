from typing import Any

from django.apps import AppConfig
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from leadgateway.server.signals import web_worker_started


class StatsConfig(AppConfig):
    name = "stats"
    verbose_name = _("Statistics")

    def ready(self) -> None:
        """Start heartbeats and monitor threads when a web worker, a worker or beat starts."""
        from stats.monitoring import heartbeat, monitor_thread  # they connect to Celery's signals

        def start_in_web(**_: Any) -> None:
            heartbeat.web_started_at = timezone.now()
            monitor_thread.start()

        web_worker_started.connect(start_in_web, weak=False)
