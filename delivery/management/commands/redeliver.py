from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.management.arguments import actor, duration
from delivery.management.lead_action_command import LeadActionCommand
from leads.models import InboundLead, LeadStatus


class Command(LeadActionCommand):
    help = (
        "Send leads to the customer once more, with a fresh retry schedule and the same Idempotency-Key. "
        "Either give their numbers, or --status (and --since) for all leads of one status."
    )
    verb = "redeliver"
    participle = "redelivered"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--status", choices=LeadStatus.values, help="all leads of this status")
        parser.add_argument("--since", type=duration, metavar="2h", help="with --status: received no longer ago")
        parser.add_argument("--include-delivered", action="store_true", help="also leads that the customer has already")

    def chosen(self, options: dict[str, Any]) -> list[int]:
        if bool(options["ids"]) == bool(options["status"]):
            raise CommandError("Which leads? Give either their numbers or --status.")
        if options["ids"]:
            if options["since"] is not None:
                raise CommandError("--since goes with --status, not with numbers.")
            return super().chosen(options)
        leads = InboundLead.objects.filter(status=options["status"])
        if options["since"] is not None:
            leads = leads.filter(received_at__gte=timezone.now() - options["since"])
        return list(leads.order_by("pk").values_list("pk", flat=True))

    def order(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        include_delivered = options["include_delivered"]
        try:
            lead_actions.redeliver(
                lead_id, actor=actor(), reason=options["reason"], now=now, include_delivered=include_delivered
            )
        except lead_actions.ActionNotAllowed as refused:
            if refused.why != lead_actions.Refusal.DELIVERED:
                raise
            raise lead_actions.ActionRefused(f"{refused}; --include-delivered sends it again") from refused
