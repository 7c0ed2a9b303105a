"""Whether the gateway can take leads: runs the checks of readiness within DATABASE_TIMEOUT."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.conf import settings

from leadgateway import db
from stats.monitoring.checks.check import Check, Consumer
from stats.monitoring.checks.registry import checks_for
from stats.monitoring.checks.result import CheckResult, Verdict, failure
from stats.text.checks import readiness_reason

#: The facts of a result that the response contains.
_SHOWN_FACTS = ("depth", "sha256")

#: Without these the gateway still stores leads.
_NOT_NEEDED = {"queue"}

# In another thread, so that an unresponsive queue and an unresponsive database together cost one time-out.
_background = ThreadPoolExecutor(max_workers=4, thread_name_prefix="readiness")


def run_checks() -> dict[str, CheckResult]:
    """Return the result of each check by name; takes DATABASE_TIMEOUT at most, and never raises.

    The wait for the database also depends on its pool, whose time-out the web server sets.
    """
    timeout = settings.DATABASE_TIMEOUT
    ends_at = time.monotonic() + timeout.total_seconds()
    checks = checks_for(Consumer.READINESS)
    pending = {check.name: _background.submit(_result, check) for check in checks if check.in_background}
    results: dict[str, CheckResult] = {}
    with db.deadline(timeout):
        for check in checks:
            if check.needs_database and results["database"].verdict is not Verdict.OK:
                results[check.name] = failure(check.name, code="database_unavailable")
            elif not check.in_background:
                results[check.name] = _result(check)
    for name, future in pending.items():
        results[name] = _wait(name, future, ends_at=ends_at)
    return {check.name: results[check.name] for check in checks}


def status(results: dict[str, CheckResult]) -> str:
    """Return `ready`, `degraded` (only the queue fails: leads are stored all the same) or `not ready`."""
    failing = {name for name, result in results.items() if result.verdict is not Verdict.OK}
    return "ready" if not failing else "degraded" if failing <= _NOT_NEEDED else "not ready"


def as_json(result: CheckResult, *, detailed: bool) -> dict[str, Any]:
    """Return a result for JSON, with its reason and facts only if `detailed`, because they describe the system."""
    shown: dict[str, Any] = {"ok": result.verdict is Verdict.OK}
    if detailed and result.verdict is not Verdict.OK:
        shown["reason"] = readiness_reason(result)
    if detailed:
        shown |= {name: result.facts[name] for name in _SHOWN_FACTS if name in result.facts}
    return shown


def _result(check: Check) -> CheckResult:
    [result] = check.run()
    return result


def _wait(name: str, future: Future[CheckResult], *, ends_at: float) -> CheckResult:
    try:
        return future.result(timeout=max(0.0, ends_at - time.monotonic()))
    except TimeoutError:
        future.cancel()
        return failure(name, code="timed_out")
