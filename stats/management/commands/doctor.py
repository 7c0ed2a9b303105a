from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from stats.management.results import show
from stats.monitoring.checks.check import Consumer, run_bounded
from stats.monitoring.checks.database import without_pool
from stats.monitoring.checks.registry import checks_for
from stats.monitoring.checks.result import CheckResult


class Command(BaseCommand):
    help = "Check everything the gateway needs, and show how to fix what is wrong. Exit code 1 if a check fails."
    requires_system_checks = []  # a failed system check must not hide the other results

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the results as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        with without_pool():
            show(self, _results(), as_json=options["json"])


def _results() -> Iterator[CheckResult]:
    for check in checks_for(Consumer.DOCTOR):
        yield from run_bounded(check)
