"""What `redeliver` and `reprocess` share: which leads, whether really, and one line for each."""

import sys
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from delivery.bulk_actions.lead_actions import ActionRefused
from delivery.management.arguments import reason
from delivery.management.preconditions import require_database
from leadgateway import queue
from leadgateway.dependencies import reason as why
from leads.models import InboundLead


class LeadActionCommand(BaseCommand):
    """A command that orders one thing for each of many leads. What one lead refuses does not stop the others."""

    #: As in "redeliver 3 leads?" and "ordered to be redelivered".
    verb: str
    participle: str

    def order(self, lead_id: int, options: dict[str, Any], *, now: datetime) -> None:
        """Give the order.

        :raises ActionRefused: it does not fit the lead.
        """
        raise NotImplementedError

    def chosen(self, options: dict[str, Any]) -> list[int]:
        """Return the leads that the command line asks for, each once."""
        return list(dict.fromkeys(options["ids"]))

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="numbers of leads")
        parser.add_argument(
            "--reason", required=True, type=reason, metavar="TEXT", help="why, for the trail; no personal data"
        )
        parser.add_argument("--dry-run", action="store_true", help="only show which leads it would be")
        parser.add_argument("--yes", action="store_true", help="do not ask, even for more than one lead")

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        leads = self.chosen(options)
        if options["dry_run"]:
            self._show(leads)
            return
        if len(leads) > 1 and not options["yes"] and not self._confirmed(len(leads)):
            raise CommandError("Nothing was done.")
        refused = sum(not self._process(lead_id, options) for lead_id in leads)
        self.stdout.write(
            f"{len(leads) - refused} of {len(leads)} lead{pluralize(len(leads))} ordered to be {self.participle}."
        )
        if refused:
            sys.exit(1)

    def _show(self, leads: list[int]) -> None:
        known = dict(InboundLead.objects.filter(pk__in=leads).values_list("pk", "status"))
        for lead_id in leads:
            self.stdout.write(f"lead {lead_id}: {known.get(lead_id, 'does not exist')}")
        self.stdout.write(f"{len(leads)} lead{pluralize(len(leads))} would be {self.participle}; nothing was done.")

    def _confirmed(self, count: int) -> bool:
        if not sys.stdin.isatty():
            return True  # a script has decided
        return input(f"{self.verb.capitalize()} {count} leads? [y/N] ").strip().lower() in ("y", "yes")

    def _process(self, lead_id: int, options: dict[str, Any]) -> bool:
        now = timezone.now()
        try:
            self.order(lead_id, options, now=now)
        except ActionRefused as error:
            self.stdout.write(f"REFUSED: {error}")
            return False
        except DatabaseError as error:
            raise CommandError(
                f"lead {lead_id}: the database failed, {why(error)}. Later leads were not tried."
            ) from error
        self.stdout.write(f"lead {lead_id}: to be {self.participle}{_enqueue(lead_id, now=now)}")
        return True


def _enqueue(lead_id: int, *, now: datetime) -> str:
    """Ring for a worker; the order, given at `at`, stands without it, since the sweep rings as well."""
    try:
        queue.enqueue(lead_id, again=True)
    except queue.QueueUnavailable:
        return " (the queue is away; it goes out when it is back)"
    InboundLead.objects.filter(pk=lead_id, claim_token=None, next_attempt_at=now).update(enqueued_at=now)
    return ""
