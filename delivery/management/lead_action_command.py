"""The base class of `redeliver` and `reprocess`."""

import sys
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.bulk_actions.lead_actions import ActionNotAllowed, SkipReason
from delivery.management.arguments import add_no_input, add_reason, confirm
from delivery.management.preconditions import require_database
from leadgateway import queue
from leadgateway.dependencies import reason as error_reason
from leads.models import InboundLead


class LeadActionCommand(BaseCommand):
    """A command that applies an action to each selected lead. Leads that do not allow it are skipped (exit code 1)."""

    #: The verb in the infinitive, to which "ed" can be added.
    verb: str

    def apply(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        """Apply the action to one lead.

        :raises ActionNotAllowed: the lead does not allow it.
        """
        raise NotImplementedError

    def selected_leads(self, options: dict[str, Any]) -> list[int]:
        """Return the ids of the selected leads without duplicates."""
        return list(dict.fromkeys(options["ids"]))

    def hint(self, reason: SkipReason) -> str:
        """Return what to do about a skipped lead, or an empty string."""
        return ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="lead ids")
        add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="list the selected leads, change nothing")
        add_no_input(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        leads = self.selected_leads(options)
        if options["dry_run"]:
            self._list(leads)
            return
        # A script has no terminal. Its author has decided already.
        if len(leads) > 1 and options["interactive"] and sys.stdin.isatty():
            confirm(f"{self.verb.capitalize()} {len(leads)} leads?")
        skipped = sum(not self._process(lead_id, options) for lead_id in leads)
        self.stdout.write(f"{_count(len(leads) - skipped)} will be {self.verb}ed, {skipped} skipped.")
        if skipped:
            sys.exit(1)

    def _list(self, leads: list[int]) -> None:
        statuses = dict(InboundLead.objects.filter(pk__in=leads).values_list("pk", "status"))
        for lead_id in leads:
            self.stdout.write(f"Lead {lead_id}: {statuses.get(lead_id, 'does not exist')}")
        self.stdout.write(f"{_count(len(leads))} selected. Nothing was changed.")

    def _process(self, lead_id: int, options: dict[str, Any]) -> bool:
        """Process one lead and return whether it was changed."""
        now = timezone.now()
        try:
            self.apply(lead_id, options, now=now)
        except ActionNotAllowed as error:
            self.stdout.write(f"Skipped: {error}. {self.hint(error.reason)}".rstrip())
            return False
        except DatabaseError as error:
            raise CommandError(
                f"Lead {lead_id}: database error, {error_reason(error)}. The leads after it were not processed."
            ) from error
        self.stdout.write(f"Lead {lead_id} will be {self.verb}ed{_enqueue(lead_id, now=now)}.")
        return True


def _count(leads: int) -> str:
    return f"{leads} lead{pluralize(leads)}"


def _enqueue(lead_id: int, *, now: datetime) -> str:
    """Enqueue the lead, and return the condition to mention if that is not possible."""
    try:
        lead_actions.enqueue([lead_id], now=now)
    except queue.QueueUnavailable:
        return " when the queue is available again"
    return ""
