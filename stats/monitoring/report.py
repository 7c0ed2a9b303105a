"""The judgements for a terminal, the good ones included, as the findings that `doctor` shows."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from leadgateway.time_format import span
from stats.models import Incident, MonitoringState
from stats.monitoring.doctor.finding import Finding, fail, ok, warn
from stats.monitoring.rules import CheckResult, Kind, Verdict
from stats.text.incidents import tell

_SUBJECTS = {
    Kind.DATABASE_UNAVAILABLE: "database",
    Kind.QUEUE_UNAVAILABLE: "queue",
    Kind.NO_WORKER: "workers",
    Kind.NO_BEAT: "beat",
    Kind.LEADS_STUCK: "leads",
    Kind.DELIVERIES_FAIL: "deliveries",
    Kind.CUSTOMER_DOWN: "customer",
    Kind.DELIVERY_PAUSED: "hold",
    Kind.QUEUE_DEEP: "queue depth",
    Kind.SOURCE_SILENT: "source",
}

_WELL: dict[Kind, Callable[[dict[str, Any]], str]] = {
    Kind.DATABASE_UNAVAILABLE: lambda _: "answers",
    Kind.QUEUE_UNAVAILABLE: lambda _: "answers",
    Kind.NO_WORKER: lambda facts: f"{facts['alive']} alive",
    Kind.NO_BEAT: lambda facts: "alive" if facts["alive"] == 1 else f"{facts['alive']} alive, of which one is enough",
    Kind.LEADS_STUCK: lambda _: "none is stuck",
    Kind.DELIVERIES_FAIL: lambda facts: _attempts(facts),
    Kind.CUSTOMER_DOWN: lambda _: "not taken for down",
    Kind.DELIVERY_PAUSED: lambda _: "not held",
    Kind.QUEUE_DEEP: lambda facts: f"{facts['depth']} wait for a worker",
    Kind.SOURCE_SILENT: lambda _: "sends as usual",
}


def findings(results: list[CheckResult], *, now: datetime) -> Iterator[Finding]:
    """Return a finding for each judgement."""
    for result in results:
        yield _finding(result, now=now)


def database_is_away(reason: str) -> Finding:
    """Return what is found instead of everything else without a database."""
    advice = tell(Kind.DATABASE_UNAVAILABLE, {}, now=datetime.min).advice
    return fail(_SUBJECTS[Kind.DATABASE_UNAVAILABLE], f"cannot be reached: {reason}", advice)


def last_check(watch: MonitoringState | None, *, now: datetime) -> Finding:
    """Tell whether the pipeline is checked as it should be: the check cannot find that it is not made."""
    if watch is None or watch.checked_at is None:
        return warn("last check", "there was none yet", "Beat, a worker or a web server makes one. Does any run?")
    told = f"{span(now - watch.checked_at)} ago"
    if now - watch.checked_at > max(3 * settings.MONITORING_INTERVAL, timedelta(seconds=30)):
        return fail("last check", told, "Nobody is told of incidents. Is beat running, a worker, a web server?")
    return ok("last check", told)


def lingering(incidents: list[Incident], results: list[CheckResult], *, now: datetime) -> Iterator[Finding]:
    """Return the incidents that are open though all looks well: they end after a few more checks."""
    bad = {(result.kind.value, result.subject) for result in results if result.verdict is Verdict.BAD}
    for incident in incidents:
        if (incident.kind, incident.subject) not in bad:
            lasted = span(now - incident.opened_at)
            subject = " ".join(filter(None, (incident.kind, incident.subject)))
            advice = "It ends when the check finds it well again."
            yield warn("open incident", f"{subject}, since {lasted}; not seen now", advice)


def _finding(result: CheckResult, *, now: datetime) -> Finding:
    subject, facts = _SUBJECTS[result.kind], result.facts
    name = f"{result.subject}: " if result.subject else ""
    if result.verdict is Verdict.BAD:
        told = tell(result.kind, facts, now=now, subject=result.subject)
        return fail(subject, told.what, told.advice)
    if result.kind is Kind.DELIVERY_PAUSED and "since" in facts:
        told = tell(result.kind, facts, now=now)
        return warn(subject, told.what, told.advice)
    if result.verdict is Verdict.UNKNOWN:
        return ok(subject, _not_known(result))
    return ok(subject, f"{name}{_WELL[result.kind](facts)}")


def _attempts(facts: dict[str, Any]) -> str:
    return f"{facts['failed']} of {facts['attempts']} attempts failed within {facts['minutes']} min"


def _not_known(result: CheckResult) -> str:
    if result.kind is Kind.DELIVERIES_FAIL:
        return f"{_attempts(result.facts)}: too few to tell"
    return "not known"
