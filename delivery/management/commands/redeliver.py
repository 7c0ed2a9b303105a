from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.management.arguments import actor, duration
from delivery.management.lead_action_command import LeadActionCommand
from leads.models import InboundLead, LeadStatus


class Command(LeadActionCommand):
    help = (
        "Send leads to the customer again, with a new retry schedule and the same Idempotency-Key. "
        "Select the leads by their ids, or by --status and --since."
    )
    verb = "redeliver"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--status", choices=LeadStatus.values, help="select all leads with this status")
        parser.add_argument(
            "--since",
            type=duration,
            metavar="DURATION",
            help="with --status: only leads received within this time, such as 2h",
        )
        parser.add_argument(
            "--include-delivered", action="store_true", help="also send leads that the customer already has"
        )

    def selected_leads(self, options: dict[str, Any]) -> list[int]:
        if bool(options["ids"]) == bool(options["status"]):
            raise CommandError("Select leads either by their ids or by --status.")
        if options["ids"]:
            if options["since"] is not None:
                raise CommandError("--since can only be used with --status.")
            return super().selected_leads(options)
        leads = InboundLead.objects.filter(status=options["status"])
        if options["since"] is not None:
            leads = leads.filter(received_at__gte=timezone.now() - options["since"])
        return list(leads.order_by("pk").values_list("pk", flat=True))

    def apply(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        lead_actions.redeliver(
            lead_id,
            actor=actor(),
            reason=options["reason"],
            now=now,
            include_delivered=options["include_delivered"],
        )

    def hint(self, reason: SkipReason) -> str:
        return "Use --include-delivered to send it again." if reason == SkipReason.DELIVERED else ""
