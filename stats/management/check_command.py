"""Base of the commands that run checks: their results on a terminal, or as JSON, and the exit code."""

import json
import sys
import textwrap
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from stats.monitoring.checks.check import TIME_LIMIT_S, Consumer, run_bounded
from stats.monitoring.checks.database import without_pool
from stats.monitoring.checks.registry import checks_for
from stats.monitoring.checks.result import CheckResult, Verdict
from stats.text.checks import describe, label

_WIDTH = 100
_VERDICT_WIDTH, _LABEL_WIDTH = 9, 21
_INDENT = " " * (_VERDICT_WIDTH + _LABEL_WIDTH)


class CheckCommand(BaseCommand):
    """Runs the checks of a consumer and shows the results as they come. Exits with code 1 if there is a failure."""

    requires_system_checks = []  # a failed system check must not hide the other results
    consumer: Consumer
    time_limit_s = TIME_LIMIT_S

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the results as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        results = []
        with without_pool():
            for check in checks_for(self.consumer):
                for result in run_bounded(check, time_limit_s=self.time_limit_s):
                    results.append(result)
                    if not options["json"]:
                        _write(self, result)
        if options["json"]:
            self.stdout.write(json.dumps([_as_json(result) for result in results], indent=2, ensure_ascii=False))
        else:
            self.stdout.write(_summary(results))
        if any(result.verdict is Verdict.FAILURE for result in results):
            sys.exit(1)


def _write(command: BaseCommand, result: CheckResult) -> None:
    style = command.style
    paint = {Verdict.OK: style.SUCCESS, Verdict.WARNING: style.WARNING, Verdict.FAILURE: style.ERROR}
    text = describe(result, now=timezone.now())
    word = result.verdict.upper() if result.verdict is Verdict.FAILURE else result.verdict
    verdict = f"{word:<{_VERDICT_WIDTH}}"
    line = _wrapped(f"{verdict}{label(result):<{_LABEL_WIDTH}}", text.detail)
    command.stdout.write(paint.get(result.verdict, str)(verdict) + line.removeprefix(verdict))
    if text.remedy:
        command.stdout.write(_wrapped(f"{_INDENT}-> ", text.remedy))


def _wrapped(head: str, text: str) -> str:
    indent = " " * len(head)
    return textwrap.fill(
        text, _WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _summary(results: list[CheckResult]) -> str:
    counts = Counter(result.verdict for result in results)
    parts = [f"{counts[Verdict.OK]} ok", _plural(counts[Verdict.WARNING], "warning")]
    if counts[Verdict.UNKNOWN]:
        parts.append(f"{counts[Verdict.UNKNOWN]} unknown")
    return ", ".join([*parts, _plural(counts[Verdict.FAILURE], "failure")])


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _as_json(result: CheckResult) -> dict[str, Any]:
    text = describe(result, now=timezone.now())
    return {
        "check": result.check,
        "subject": result.subject,
        "verdict": result.verdict,
        "detail": text.detail,
        "remedy": text.remedy,
        "facts": dict(result.facts),
    }
