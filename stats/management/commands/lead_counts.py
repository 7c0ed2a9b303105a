import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Sum

from leads.models import DeletedLeads
from stats.api import queries


class Command(BaseCommand):
    help = "Show the number of leads in each status."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON, like GET /stats/leads/counts")

    def handle(self, *args: Any, **options: Any) -> None:
        counts = queries.counts()
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(_table(counts))
            if deleted := DeletedLeads.objects.aggregate(leads=Sum("leads"))["leads"]:
                self.stdout.write(f"\nDeleted by retention (RETENTION_DAYS): {deleted}")


def _table(counts: dict[str, int]) -> str:
    words = {name.replace("_", " "): str(count) for name, count in counts.items()}
    left, right = max(map(len, words)), max(map(len, words.values()))
    lines = [f"{name.ljust(left)}  {count.rjust(right)}" for name, count in words.items()]
    lines.insert(-1, "-" * (left + 2 + right))
    return "\n".join(lines)
