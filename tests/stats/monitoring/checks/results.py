"""Runs checks and picks their results."""

from collections.abc import Callable, Iterable

from stats.monitoring.checks.result import CheckResult

Run = Callable[[], Iterable[CheckResult]]


def only_result(run: Run, check: str | None = None) -> CheckResult:
    """Run a check and return its one result, or its one result for `check`."""
    results = [result for result in run() if check is None or result.check == check]
    assert len(results) == 1, results
    return results[0]
