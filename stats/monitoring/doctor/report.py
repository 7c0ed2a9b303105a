"""Findings on a terminal: one after the other, with a mark and what to do, and their number in the end."""

import textwrap
from collections.abc import Sequence

from django.core.management.base import BaseCommand

from stats.monitoring.doctor.finding import Finding, Verdict

_WIDTH = 100
_INDENT = " " * 26


def show(command: BaseCommand, findings: Sequence[Finding]) -> None:
    """Write findings to the command's output, in colour on a terminal that has it."""
    paint = {Verdict.OK: command.style.SUCCESS, Verdict.WARN: command.style.WARNING, Verdict.FAIL: command.style.ERROR}
    for finding in findings:
        head = f"{finding.verdict:<6}"
        text = _wrapped(f"{head}{finding.subject:<20}", finding.found)
        command.stdout.write(paint[finding.verdict](head) + text.removeprefix(head))
        if finding.advice:
            command.stdout.write(_wrapped(_INDENT, f"-> {finding.advice}"))


def summary(findings: Sequence[Finding]) -> str:
    """Return how many are good, bad, and in between."""
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=head, subsequent_indent=_INDENT, break_long_words=False)
