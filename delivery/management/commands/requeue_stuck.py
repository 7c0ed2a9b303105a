from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count
from django.template.defaultfilters import pluralize
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.management.arguments import duration
from delivery.management.delivery_status import why_leads_wait
from delivery.management.preconditions import require_database
from leadgateway import queue
from leads.models import InboundLead, LeadQuerySet

BATCH = 500


class Command(BaseCommand):
    help = "Ring at once for every open lead that is overdue and that no worker has in its hands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=duration, default=timedelta(minutes=1), metavar="1m", help="overdue for so long (1m)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        stuck = _stuck(timezone.now() - options["older_than"])
        total = self._count(stuck)
        if not total:
            self.stdout.write("No lead is stuck.")
            return
        if obstacle := why_leads_wait():
            raise CommandError(f"{obstacle} The leads are sent afterwards and need no requeueing.")
        if options["dry_run"]:
            self.stdout.write(f"{total} lead{pluralize(total)} would be requeued; nothing was done.")
            return
        rung = 0
        for batch in _batches(stuck):
            rung += self._requeue(batch, rung)
            self.stdout.write(f"{rung} of {total}")
        self.stdout.write(f"{rung} lead{pluralize(rung)} requeued.")

    def _count(self, stuck: LeadQuerySet) -> int:
        counts = stuck.values_list("status").annotate(leads=Count("pk")).order_by("status")
        for status, leads in counts:
            self.stdout.write(f"{status:<20}{leads:>8}")
        return sum(leads for _, leads in counts)

    def _requeue(self, batch: list[int], before: int) -> int:
        """Release and ring; return for how many. What a worker has taken meanwhile is none of our business."""
        rung = 0
        for lead_id in batch:
            now = timezone.now()
            if not lead_actions.release(lead_id, now=now):
                continue
            try:
                queue.enqueue(lead_id, again=True)
            except queue.QueueUnavailable as error:
                text = f"The queue is away ({error}) after {before + rung} leads; the sweep rings when it is back."
                raise CommandError(text) from error
            InboundLead.objects.filter(pk=lead_id, claim_token=None, next_attempt_at=now).update(enqueued_at=now)
            rung += 1
        return rung


def _stuck(since: datetime) -> LeadQuerySet:
    return InboundLead.objects.due(timezone.now()).filter(next_attempt_at__lte=since)


def _batches(leads: LeadQuerySet) -> Iterator[list[int]]:
    """Yield the numbers of the leads, a batch at a time; each lead once, though the set changes on the way."""
    last = 0
    while batch := list(leads.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        yield batch
        last = batch[-1]
