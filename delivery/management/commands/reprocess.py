from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from delivery.bulk_actions import lead_actions
from delivery.management.arguments import actor
from delivery.management.lead_action_command import LeadActionCommand


class Command(LeadActionCommand):
    help = (
        "Start leads over from what was received: rules, normalization, mapping, delivery. "
        "For leads that a changed rule or mapping file would treat differently; never for delivered ones."
    )
    verb = "reprocess"
    participle = "reprocessed"

    def chosen(self, options: dict[str, Any]) -> list[int]:
        if not options["ids"]:
            raise CommandError("Which leads? Give their numbers.")
        return super().chosen(options)

    def order(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        lead_actions.reprocess(lead_id, actor=actor(), reason=options["reason"], now=now)
