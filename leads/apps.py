from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from leadgateway.server.signals import web_worker_started, web_worker_stopped


class LeadsConfig(AppConfig):
    name = "leads"
    verbose_name = _("Leads")

    def ready(self) -> None:
        """Start and stop the writer with each web process."""

        async def start(**_: Any) -> None:
            from leads.webhook.view import start_writer

            await start_writer()

        async def stop(**_: Any) -> None:
            from leads.webhook.view import stop_writer

            await stop_writer()

        web_worker_started.connect(start, weak=False)
        web_worker_stopped.connect(stop, weak=False)
