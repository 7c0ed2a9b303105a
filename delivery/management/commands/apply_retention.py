from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize
from django.utils import timezone
from tqdm import tqdm

from delivery.management.arguments import actor
from delivery.management.confirmation import confirm
from delivery.management.preconditions import require_database
from delivery.privacy import retention


class Command(BaseCommand):
    help = (
        "Delete the leads that ended longer ago than RETENTION_DAYS says, with all that is theirs. Beat has it done "
        "every hour too. Cannot be undone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count them")
        parser.add_argument("--no-input", action="store_false", dest="interactive", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        periods = settings.RETENTION_DAYS
        if not periods:
            raise CommandError("RETENTION_DAYS is not set: everything is kept for ever.")
        require_database()
        now = timezone.now()
        total = self._count(periods, now)
        if options["dry_run"] or not total:
            self.stdout.write("Nothing was done.")
            return
        confirm(f"Delete {total} lead{pluralize(total)}?", is_asked=options["interactive"])
        deleted = 0
        with tqdm(total=total, desc="deleting", unit=" leads", disable=None) as bar:
            while batch := retention.delete_batch(periods, now=now, actor=actor()):
                deleted += batch
                bar.update(batch)
        self.stdout.write(f"{deleted} lead{pluralize(deleted)} deleted.")

    def _count(self, periods: retention.Periods, now: datetime) -> int:
        counts = retention.count_by_status(periods, now=now)
        for status, kept in periods.items():
            self.stdout.write(f"{status:<20}older than {kept.days:>5} days {counts.get(status.upper(), 0):>8}")
        return sum(counts.values())
