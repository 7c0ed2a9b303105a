from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StatsConfig(AppConfig):
    name = "stats"
    verbose_name = _("Statistics")

    def ready(self) -> None:
        """Start heartbeats and monitoring in workers and in beat, whose signals only their processes receive."""
        from stats.monitoring import (
            heartbeat,  # noqa: F401 (connects signals)
            monitor_thread,  # noqa: F401 (connects signals)
        )
