from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from stats.management.results import show
from stats.monitoring.checks.check import Consumer, run_bounded
from stats.monitoring.checks.database import without_pool
from stats.monitoring.checks.registry import checks_for
from stats.monitoring.checks.result import CheckResult

#: Seconds until an unresponsive database is reported.
_TIME_LIMIT_S = 10


class Command(BaseCommand):
    help = "Show whether leads are accepted and delivered right now, by the rules of the alerts. Exit code 1 if not."
    requires_system_checks = []  # an invalid configuration must not hide the results

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the results as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        with without_pool():
            show(self, _results(), as_json=options["json"])


def _results() -> Iterator[CheckResult]:
    for check in checks_for(Consumer.PIPELINE_STATUS):
        yield from run_bounded(check, time_limit_s=_TIME_LIMIT_S)
