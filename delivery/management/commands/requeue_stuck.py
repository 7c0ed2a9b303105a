from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count
from django.template.defaultfilters import pluralize
from django.utils import timezone
from tqdm import tqdm

from delivery.bulk_actions import lead_actions
from delivery.management.arguments import duration
from delivery.management.delivery_status import why_leads_wait
from delivery.management.preconditions import require_database
from leadgateway import queue
from leads.models import InboundLead, LeadQuerySet


class Command(BaseCommand):
    help = "Enqueue all overdue leads that no worker has claimed, without waiting for the sweep."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            default=timedelta(minutes=1),
            metavar="DURATION",
            help="only leads that have been overdue this long (default: 1m)",
        )
        parser.add_argument("--dry-run", action="store_true", help="count the leads, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        now = timezone.now()
        stuck = InboundLead.objects.due(now).filter(next_attempt_at__lte=now - options["older_than"])
        total = self._print_counts(stuck)
        if not total:
            self.stdout.write("No lead is stuck.")
            return
        if obstacle := why_leads_wait():
            raise CommandError(f"{obstacle} The leads are sent afterwards and need no requeueing.")
        if options["dry_run"]:
            self.stdout.write(f"{total} lead{pluralize(total)} would be requeued. Nothing was changed.")
            return
        requeued = _requeue(list(stuck.order_by("pk").values_list("pk", flat=True)))
        self.stdout.write(f"{requeued} lead{pluralize(requeued)} requeued.")

    def _print_counts(self, stuck: LeadQuerySet) -> int:
        """Print the number of leads of each status and return the total."""
        counts = stuck.values_list("status").annotate(leads=Count("pk")).order_by("status")
        for status, leads in counts:
            self.stdout.write(f"{status:<20}{leads:>8}")
        return sum(leads for _, leads in counts)


def _requeue(leads: list[int]) -> int:
    """Requeue the leads and return their number, without those that a worker has claimed in the meantime.

    :raises CommandError: the queue is unavailable.
    """
    requeued = 0
    for lead_id in tqdm(leads, desc="requeueing", unit=" leads", disable=None):
        now = timezone.now()
        if not lead_actions.release(lead_id, now=now):
            continue
        try:
            lead_actions.enqueue([lead_id], now=now)
        except queue.QueueUnavailable as error:
            raise CommandError(
                f"The queue is unavailable ({error}). {requeued} lead{pluralize(requeued)} requeued. "
                "The sweep enqueues the others when the queue is available again."
            ) from error
        requeued += 1
    return requeued
