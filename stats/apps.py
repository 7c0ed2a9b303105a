from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StatsConfig(AppConfig):
    name = "stats"
    verbose_name = _("Statistics")

    def ready(self) -> None:
        """Have workers and beat say that they live, and watch; the signals come in their processes only."""
        from stats.monitoring import (
            heartbeat,  # noqa: F401 (connects)
            monitor_thread,  # noqa: F401 (connects)
        )
