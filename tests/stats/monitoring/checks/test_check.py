"""How a check is run: within its time, and with any exception."""

import threading
import time
from collections.abc import Iterator

from django.db import OperationalError

from stats.monitoring.checks.check import Check, run_bounded
from stats.monitoring.checks.result import CheckResult, Verdict, ok


def test_a_check_that_does_not_end_is_abandoned() -> None:
    ends = threading.Event()

    def hanging() -> Iterator[CheckResult]:
        yield ok("first")
        ends.wait(30)

    started = time.monotonic()
    results = run_bounded(Check("slow", hanging), time_limit_s=0.2)
    ends.set()

    assert time.monotonic() - started < 20
    assert [(result.check, result.verdict) for result in results] == [("first", Verdict.OK), ("slow", Verdict.FAILURE)]


def test_a_crash_is_a_failure_of_the_check() -> None:
    def crashing() -> Iterator[CheckResult]:
        yield ok("first")
        raise RuntimeError("for jane@example.com")

    _, result = run_bounded(Check("broken", crashing))

    assert (result.check, result.verdict, result.facts["code"]) == ("broken", Verdict.FAILURE, "check_crashed")
    assert "RuntimeError" in result.facts["error"]
    assert "jane@example.com" not in result.facts["error"]


def test_an_unavailable_database_is_named_as_the_cause() -> None:
    def unavailable() -> list[CheckResult]:
        raise OperationalError("connection failed: Connection refused\nIs the server running?")

    [result] = run_bounded(Check("audit_log", unavailable))

    assert result.verdict is Verdict.FAILURE
    assert result.facts == {"code": "check_needs_database", "error": "Connection refused"}
