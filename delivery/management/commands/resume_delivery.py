from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.template.defaultfilters import pluralize
from django.utils import timezone

from delivery.control import pause
from delivery.management.arguments import actor, add_reason
from delivery.management.delivery_status import why_leads_wait
from delivery.management.preconditions import require_database
from leads.models import InboundLead


class Command(BaseCommand):
    help = "Resume delivery after pause_delivery. Leads that were waiting are sent automatically."

    def add_arguments(self, parser: CommandParser) -> None:
        add_reason(parser, required=False)

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        now = timezone.now()
        if not pause.resume_delivery(actor=actor(), reason=options["reason"], now=now):
            self.stdout.write("Nothing changed. Delivery is not paused.")
            return
        count = InboundLead.objects.due(now).count()
        self.stdout.write(f"Delivery is resumed. {count} lead{pluralize(count)} waiting.")
        if obstacle := why_leads_wait():
            self.stdout.write(obstacle)
