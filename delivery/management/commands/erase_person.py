import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from delivery.management.arguments import actor, add_no_input, confirm
from delivery.management.person_arguments import add_person, search
from delivery.privacy.erasure import Report, erase, rewrite_tables
from delivery.privacy.person_search import Occurrences
from leads.audit.number_ranges import in_ranges

_LABEL_WIDTH = 32


class Command(BaseCommand):
    help = (
        "Erase a person. Their own leads keep only status, times, attempts and codes. In other leads, what mentions "
        "them is replaced. Their open leads are closed and not sent. Leads that a worker has claimed are skipped "
        "(exit code 1); run the command again for them. Cannot be undone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_person(parser)
        parser.add_argument("--dry-run", action="store_true", help="show where the person occurs, change nothing")
        add_no_input(parser)
        parser.add_argument(
            "--vacuum",
            action="store_true",
            help="also remove the erased data from the database's files; locks the tables meanwhile",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        person, occurrences = search(options)
        self.stdout.write(_occurrences_text(occurrences))
        if options["dry_run"]:
            self.stdout.write("Nothing was changed.")
            return
        if options["interactive"] and occurrences:
            confirm("Erase this person?")
        with tqdm(total=len(occurrences.leads), desc="erasing", unit=" leads", disable=None) as bar:
            report = erase(person, occurrences, actor=actor(), progress=bar.update)
        if options["vacuum"]:
            rewrite_tables()
        self.stdout.write(f"\n{_report_text(report)}")
        if report.busy_leads:
            sys.exit(1)


def _occurrences_text(found: Occurrences) -> str:
    return _table(
        ("Leads of the person", _leads_text(found.own_leads)),
        ("Other leads that mention them", _leads_text(found.other_leads)),
        ("Bulk actions about them", str(len(found.bulk_actions))),
    )


def _report_text(report: Report) -> str:
    text = _table(
        ("Leads erased", _leads_text(report.own_leads)),
        ("Other leads changed", _leads_text(report.other_leads)),
        ("Attempts changed", str(report.attempts)),
        ("Bulk actions changed", str(report.bulk_actions)),
        ("Events changed", str(report.events)),
    )
    if not report.busy_leads:
        return text
    skipped = _table(("Skipped, claimed by a worker", _leads_text(report.busy_leads)))
    return f"{text}\n{skipped}\nRun the command again in a minute for the skipped leads."


def _table(*rows: tuple[str, str]) -> str:
    return "\n".join(f"{label + ':':<{_LABEL_WIDTH}}{value}" for label, value in rows)


def _leads_text(leads: set[int]) -> str:
    return f"{len(leads)} ({in_ranges(leads)})" if leads else "none"
