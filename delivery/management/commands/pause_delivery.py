from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from delivery.control import pause
from delivery.management.arguments import actor, add_reason
from delivery.management.delivery_status import why_leads_wait
from delivery.management.preconditions import require_database


class Command(BaseCommand):
    help = "Pause delivery. Leads are still accepted and checked; they wait until you run resume_delivery."

    def add_arguments(self, parser: CommandParser) -> None:
        add_reason(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        if pause.pause_delivery(actor=actor(), reason=options["reason"], now=timezone.now()):
            self.stdout.write("Delivery is paused. Leads wait until you run resume_delivery.")
        else:
            self.stdout.write(f"Nothing changed. {why_leads_wait()}")
