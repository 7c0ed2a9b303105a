import json
import sys
import textwrap
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from delivery.doctor import customer, database, flow, installation
from delivery.doctor.finding import Check, Finding, Verdict, examine

#: What is examined, in this order; the name is used when a check finds nothing because it breaks down or hangs.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("versions", installation.versions),
    ("settings", installation.exposure),
    ("SECRET_KEY", installation.secret_key),
    ("mapping file", installation.mapping),
    ("disk", installation.disk),
    ("database", database.server),
    ("database", database.fitness),
    ("migrations", database.migrations),
    ("trail", database.trail),
    ("queue", flow.broker_fitness),
    ("workers", flow.workers),
    ("sweep", flow.beat),
    ("way out", flow.way_out),
    ("CUSTOMER_API_URL", customer.address),
    ("customer", customer.connection),
    ("CUSTOMER_API_TOKEN", customer.token),
)

_WIDTH = 100
_INDENT = " " * 26


class Command(BaseCommand):
    help = "Examine everything the gateway needs, and say what to do about what is not right. Exit code 1 on a FAIL."
    requires_system_checks = []  # what they find is found here, too, and does not hide the rest

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of the findings")

    def handle(self, *args: Any, **options: Any) -> None:
        findings: list[Finding] = []
        with database.without_pool():
            for subject, check in CHECKS:
                found = examine(subject, check)
                findings += found
                if not options["json"]:
                    self._show(found)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        else:
            self.stdout.write(_summary(findings))
        if any(finding.verdict is Verdict.FAIL for finding in findings):
            sys.exit(1)

    def _show(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.stdout.write(_wrapped(f"{finding.verdict:<6}{finding.subject:<20}", finding.found))
            if finding.advice:
                self.stdout.write(_wrapped(_INDENT, f"-> {finding.advice}"))


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=head, subsequent_indent=_INDENT, break_long_words=False)


def _summary(findings: list[Finding]) -> str:
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
