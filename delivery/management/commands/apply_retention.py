from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize
from django.utils import timezone
from tqdm import tqdm

from delivery.management.arguments import actor, add_no_input, confirm
from delivery.management.preconditions import require_database
from delivery.privacy import retention


class Command(BaseCommand):
    help = (
        "Delete the leads whose retention period (RETENTION_DAYS) is over, with their attempts and events. "
        "The worker also does this every hour. Cannot be undone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count the leads, delete nothing")
        add_no_input(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        periods = settings.RETENTION_DAYS
        if not periods:
            raise CommandError("RETENTION_DAYS is not set. All leads are kept.")
        require_database()
        now = timezone.now()
        total = self._print_counts(periods, now)
        if options["dry_run"] or not total:
            self.stdout.write("Nothing was deleted.")
            return
        if options["interactive"]:
            confirm(f"Delete {total} lead{pluralize(total)}?")
        deleted = _delete(periods, total=total, now=now)
        self.stdout.write(f"{deleted} lead{pluralize(deleted)} deleted.")

    def _print_counts(self, periods: retention.Periods, now: datetime) -> int:
        """Print the number of expired leads of each status and return the total."""
        counts = retention.count_by_status(periods, now=now)
        for status, period in periods.items():
            self.stdout.write(f"{status:<20}older than {period.days:>5} days {counts.get(status.upper(), 0):>8}")
        return sum(counts.values())


def _delete(periods: retention.Periods, *, total: int, now: datetime) -> int:
    deleted = 0
    with tqdm(total=total, desc="deleting", unit=" leads", disable=None) as bar:
        while batch := retention.delete_batch(periods, now=now, actor=actor()):
            deleted += batch
            bar.update(batch)
    return deleted
