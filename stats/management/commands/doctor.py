import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from stats.monitoring.doctor import customer, database, flow, installation
from stats.monitoring.doctor.finding import Check, Finding, Verdict, examine
from stats.monitoring.doctor.report import show, summary

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
                    show(self, found)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        else:
            self.stdout.write(summary(findings))
        if any(finding.verdict is Verdict.FAIL for finding in findings):
            sys.exit(1)
