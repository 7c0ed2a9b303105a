"""What a check finds, and how checks are run: each within its time, none hiding the next."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from django.db import DatabaseError, connection

from leadgateway.dependencies import reason

#: How long one check may take.
LIMIT_S = 5.0


class Verdict(StrEnum):
    """How bad it is: FAIL means that leads do not come in or do not go out, or are open to strangers."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Neither text ever holds a secret."""

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]


def ok(subject: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(subject, Verdict.OK, found)


def warn(subject: str, found: str, advice: str) -> Finding:
    """Return that something should be changed."""
    return Finding(subject, Verdict.WARN, found, advice)


def fail(subject: str, found: str, advice: str) -> Finding:
    """Return that something does not work, or must not stay so."""
    return Finding(subject, Verdict.FAIL, found, advice)


def examine(subject: str, check: Check, *, limit_s: float = LIMIT_S) -> list[Finding]:
    """Run a check in a thread of its own and return what it found, also when it breaks down or does not end."""
    findings: list[Finding] = []
    thread = threading.Thread(target=_collect, args=(subject, check, findings), daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        late = fail(
            subject, f"no answer within {limit_s:g} s", "Something on the way hangs: network, name service, disk?"
        )
        return [*findings, late]
    return findings


def _collect(subject: str, check: Check, findings: list[Finding]) -> None:
    try:
        findings.extend(check())
    except DatabaseError as error:
        findings.append(fail(subject, f"not known, the database says: {reason(error)}", "Mend the database first."))
    except Exception as error:  # noqa: BLE001 (the next check must be reached)
        told = f"the check broke down: {type(error).__name__}: {reason(error)}"
        findings.append(fail(subject, told, "Report it; the other checks stand."))
    finally:
        connection.close()
