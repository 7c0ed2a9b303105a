"""The result of a check: a verdict and facts. No sentences, which `stats.text.checks` makes, and no Django."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How good or bad a result is."""

    OK = "ok"
    #: Should be changed or looked at. Leads still come in and go out.
    WARNING = "warning"
    #: Leads do not come in or do not go out, or they are not protected.
    FAILURE = "failure"
    #: Too little is known for a verdict. Neither opens nor closes an incident.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check for one subject."""

    #: The name of what was checked. For a check of the pipeline it is the kind of the incident.
    check: str
    verdict: Verdict
    #: Which one, if a check has several results: the name of a source.
    subject: str = ""
    #: JSON values that may be stored and sent in alerts: no personal data, no secrets.
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: More facts, for a terminal only, because operators wrote some of them.
    private_facts: Mapping[str, Any] = field(default_factory=dict)


def ok(check: str, **facts: Any) -> CheckResult:
    """Return that all is well."""
    return CheckResult(check, Verdict.OK, facts=facts)


def warning(check: str, **facts: Any) -> CheckResult:
    """Return that something should be changed."""
    return CheckResult(check, Verdict.WARNING, facts=facts)


def failure(check: str, **facts: Any) -> CheckResult:
    """Return that something does not work or must not stay so."""
    return CheckResult(check, Verdict.FAILURE, facts=facts)
