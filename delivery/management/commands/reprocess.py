from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from delivery.bulk_actions import lead_actions
from delivery.management.arguments import actor
from delivery.management.lead_action_command import LeadActionCommand


class Command(LeadActionCommand):
    help = (
        "Restart leads from their raw payload: rules, normalization, mapping, delivery. "
        "Use it after a rule or the mapping file has changed. Delivered leads are skipped."
    )
    verb = "reprocess"

    def selected_leads(self, options: dict[str, Any]) -> list[int]:
        if not options["ids"]:
            raise CommandError("Select leads by their ids.")
        return super().selected_leads(options)

    def apply(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        lead_actions.reprocess(lead_id, actor=actor(), reason=options["reason"], now=now)
