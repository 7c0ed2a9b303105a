"""A check and how it is run: within its time, and without hiding the results of the next one."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Flag, auto

from django.db import DatabaseError, connection

from leadgateway.dependencies import reason
from stats.monitoring.checks.result import CheckResult, failure

#: How many seconds one check may take in a command.
TIME_LIMIT_S = 5.0


class Consumer(Flag):
    """Where the results of a check are shown."""

    DOCTOR = auto()
    READINESS = auto()
    PIPELINE_STATUS = auto()


@dataclass(frozen=True)
class Check:
    """A check of one thing, which may have several results."""

    name: str
    run: Callable[[], Iterable[CheckResult]]
    used_by: Consumer = Consumer.DOCTOR
    #: For readiness: skip the check while the database is unavailable.
    needs_database: bool = False
    #: For readiness: run it in another thread, at the same time as the checks of the database.
    in_background: bool = False


def run_bounded(check: Check, *, time_limit_s: float = TIME_LIMIT_S) -> list[CheckResult]:
    """Run a check in a thread of its own and return its results, even if it crashes or does not end."""
    results: list[CheckResult] = []
    thread = threading.Thread(target=_collect, args=(check, results), daemon=True)
    thread.start()
    thread.join(time_limit_s)
    if thread.is_alive():
        return [*results, failure(check.name, code="check_timed_out", seconds=time_limit_s)]
    return results


def _collect(check: Check, results: list[CheckResult]) -> None:
    try:
        results.extend(check.run())
    except DatabaseError as error:
        results.append(failure(check.name, code="check_needs_database", error=reason(error)))
    except Exception as error:  # noqa: BLE001 (the next check must still run)
        results.append(failure(check.name, code="check_crashed", error=f"{type(error).__name__}: {reason(error)}"))
    finally:
        connection.close()
