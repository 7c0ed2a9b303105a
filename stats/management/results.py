"""The results of checks on a terminal, or as JSON, and the exit code of the commands that show them."""

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from stats.monitoring.checks.result import CheckResult, Verdict
from stats.text.checks import describe, label

_WIDTH = 100
_VERDICT_WIDTH, _LABEL_WIDTH = 9, 21
_INDENT = " " * (_VERDICT_WIDTH + _LABEL_WIDTH)


def show(command: BaseCommand, results: Iterable[CheckResult], *, as_json: bool) -> None:
    """Write results to the command's output as they come; exit with code 1 if there is a failure."""
    shown = []
    for result in results:
        shown.append(result)
        if not as_json:
            _write(command, result)
    if as_json:
        command.stdout.write(json.dumps([_as_json(result) for result in shown], indent=2, ensure_ascii=False))
    else:
        command.stdout.write(_summary(shown))
    if any(result.verdict is Verdict.FAILURE for result in shown):
        sys.exit(1)


def _write(command: BaseCommand, result: CheckResult) -> None:
    style = command.style
    paint = {Verdict.OK: style.SUCCESS, Verdict.WARNING: style.WARNING, Verdict.FAILURE: style.ERROR}
    text = describe(result, now=timezone.now())
    verdict = f"{result.verdict.upper() if result.verdict is Verdict.FAILURE else result.verdict:<{_VERDICT_WIDTH}}"
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
