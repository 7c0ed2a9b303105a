import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from delivery.management.arguments import actor
from delivery.management.confirmation import confirm
from delivery.management.person_arguments import add_person, search
from delivery.privacy.erasure import Report, erase, rewrite_tables
from delivery.privacy.person_search import Found
from leads.audit.number_ranges import in_ranges


class Command(BaseCommand):
    help = (
        "Erase a person. Leads of theirs become tombstones: status, times, attempts and their codes stay. Out of other "
        "people's leads they are taken. A lead that is still under way is ended; one that a worker has in its hands "
        "right now is left for a second run (exit code 1). Cannot be undone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_person(parser)
        parser.add_argument("--dry-run", action="store_true", help="only show where the person is")
        parser.add_argument("--no-input", action="store_false", dest="interactive", help="do not ask")
        parser.add_argument(
            "--vacuum",
            action="store_true",
            help="rewrite the tables, so that no file has them; locks them",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        person, found = search(options)
        self.stdout.write(_where(found))
        if options["dry_run"]:
            self.stdout.write("Nothing was done.")
            return
        confirm("Erase this person?", is_asked=options["interactive"] and bool(found))
        with tqdm(total=len(found.leads), desc="erasing", unit=" leads", disable=None) as bar:
            report = erase(person, found, actor=actor(), progress=bar.update)
        if options["vacuum"]:
            rewrite_tables()
        self.stdout.write(_told(report))
        if report.busy:
            sys.exit(1)


def _where(found: Found) -> str:
    return "\n".join(
        [
            f"Leads of the person:            {_numbers(found.theirs)}",
            f"Other leads that name them:     {_numbers(found.others)}",
            f"Orders with a reason about them: {len(found.orders)}",
        ]
    )


def _numbers(leads: set[int]) -> str:
    return f"{len(leads)} ({in_ranges(leads)})" if leads else "none"


def _told(report: Report) -> str:
    lines = [
        f"Leads emptied:                  {_numbers(report.theirs)}",
        f"Leads they were taken out of:   {_numbers(report.others)}",
        *(f"{what.capitalize() + ' changed:':<31} {count}" for what, count in sorted(report.counts.items())),
    ]
    if report.busy:
        lines.append(f"LEFT, a worker has them:        {_numbers(report.busy)}. Run this again in a minute.")
    return "\n".join(lines)
