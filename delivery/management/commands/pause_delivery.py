from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from delivery.control import pause
from delivery.management.arguments import actor, reason
from delivery.management.delivery_status import why_leads_wait
from delivery.management.preconditions import require_database


class Command(BaseCommand):
    help = "Send nothing to the customer until resume_delivery. Leads are accepted and checked as ever, and wait."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--reason", required=True, type=reason, metavar="TEXT", help="why, for the trail; no personal data"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        now = timezone.now()
        if pause.pause_delivery(actor=actor(), reason=options["reason"], now=now):
            self.stdout.write("Delivery is paused. Leads wait until you run resume_delivery.")
        else:
            self.stdout.write(f"Nothing changed. {why_leads_wait()}")
