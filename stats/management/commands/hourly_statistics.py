import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from stats.management import terminal
from stats.models import HourlyStatistics
from stats.monitoring import hourly

_HEAD = (
    "hour (UTC)",
    "accepted",
    "duplicates",
    "rejected",
    "delivered",
    "failed",
    "perm. failed",
    "p50",
    "p95",
    "source",
)


class Command(BaseCommand):
    help = "Show the statistics of each hour and source, newest first. They include leads that retention has deleted."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--hours",
            type=int,
            default=24,
            choices=range(1, 10_001),
            metavar="N",
            help="number of hours, up to the last counted one (default: 24)",
        )
        parser.add_argument(
            "--json", action="store_true", help="print a JSON list, with rejection reasons and outcomes of attempts"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        hourly.aggregate_hours(now=timezone.now())
        rows = list(hourly.recent(hours=options["hours"]))
        if options["json"]:
            self.stdout.write(json.dumps([hourly.as_json(row) for row in rows]))
        elif rows:
            lines = [_HEAD, *map(_line, rows)]
            self.stdout.write(terminal.table(lines, columns=terminal.width(), right=range(1, len(_HEAD) - 1)))
        else:
            self.stdout.write("No statistics for these hours yet. An hour is counted 5 minutes after its end.")


def _line(row: HourlyStatistics) -> tuple[str, ...]:
    numbers = (row.accepted, row.duplicates, sum(row.rejected.values()), row.delivered, row.failed)
    times = ("-" if seconds is None else f"{seconds:.1f} s" for seconds in (row.p50_s, row.p95_s))
    return (f"{row.hour:%Y-%m-%d %H:%M}", *map(str, (*numbers, row.permanently_failed)), *times, row.source or "-")
