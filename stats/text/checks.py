"""Sentences about the results of checks, for `doctor`, `pipeline_status` and `/health/ready`.

In English only, like all output of commands. The sentences that the admin shows, too, are in `stats.text.incidents`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stats.monitoring.checks.pipeline import IncidentKind
from stats.monitoring.checks.result import CheckResult, Verdict
from stats.text.incidents import INCIDENTS, attempts_summary, describe_problem

#: Maximum length of a reason in the response of `/health/ready`.
_MAX_REASON = 200


@dataclass(frozen=True)
class CheckText:
    """What was found, and what to do about it, which is empty if all is well. Contains no secret."""

    detail: str
    remedy: str = ""


def label(result: CheckResult) -> str:
    """Return the short name of what was checked."""
    kind = _incident_kind(result)
    if kind:
        return INCIDENTS[kind].label
    return result.check if result.check.isupper() else result.check.replace("_", " ")


def describe(result: CheckResult, *, now: datetime) -> CheckText:
    """Return the sentences about a result."""
    code = result.facts.get("code")
    if code in _RUN_ERRORS:
        return _formatted(_RUN_ERRORS[code], result.facts)
    if kind := _incident_kind(result):
        return _pipeline(kind, result, now)
    return _formatted(_TEXTS[result.check][code or result.verdict], result.facts)


def readiness_reason(result: CheckResult) -> str:
    """Return why a check of readiness failed, in one short line."""
    template = _READINESS_REASONS[result.check, result.facts.get("code")]
    reason = _formatted(CheckText(template), result.facts).detail.partition("\n")[0]
    return reason if len(reason) <= _MAX_REASON else f"{reason[: _MAX_REASON - 3]}..."


def _incident_kind(result: CheckResult) -> IncidentKind | None:
    return IncidentKind(result.check) if result.check in set(IncidentKind) else None


def _formatted(text: CheckText, facts: Mapping[str, Any]) -> CheckText:
    values = {name: _shown(value) for name, value in facts.items()}
    return CheckText(text.detail.format(**values), text.remedy.format(**values))


def _shown(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _pipeline(kind: IncidentKind, result: CheckResult, now: datetime) -> CheckText:
    text = INCIDENTS[kind]
    if result.verdict is Verdict.UNKNOWN:
        return CheckText(attempts_summary(result.facts) if kind is IncidentKind.DELIVERIES_FAIL else "unknown")
    if result.verdict is Verdict.OK:
        return CheckText(f"{result.subject}: " * bool(result.subject) + text.good(result.facts))
    problem = describe_problem(kind, result.facts, now=now, subject=result.subject)
    details = _PRIVATE_DETAILS.get(kind, "").format(**result.private_facts) if result.private_facts else ""
    return CheckText(problem.problem + details, problem.remedy)


#: What follows the sentence of the incident in a terminal.
_PRIVATE_DETAILS = {
    IncidentKind.DATABASE_UNAVAILABLE: ": {error}",
    IncidentKind.CUSTOMER_DOWN: ". Leads waiting: {waiting}",
    IncidentKind.DELIVERY_PAUSED: " by {by}: {reason}. Leads waiting: {waiting}",
}

#: Code -> texts of a check that did not end normally.
_RUN_ERRORS = {
    "check_timed_out": CheckText("no result within {seconds} s", "Something does not respond: network, DNS or disk?"),
    "check_needs_database": CheckText("unknown, because of the database: {error}", "Fix the database first."),
    "check_crashed": CheckText("the check crashed: {error}", "Report this bug. The other results are valid."),
}

#: Check -> code or else verdict -> texts. The facts of the result fill in the names in braces.
_TEXTS: dict[str, dict[str, CheckText]] = {
    "python": {"ok": CheckText("{version}")},
    "packages": {
        "ok": CheckText("{packages} as in requirements.txt"),
        "warning": CheckText("{differences}", "pip install -r requirements.txt"),
    },
    "DEBUG": {
        "ok": CheckText("off"),
        "warning": CheckText("on", "Set DEBUG=false: error pages show payloads and settings."),
    },
    "ENABLE_AUTH": {
        "ok": CheckText("on, {secrets} secret(s)"),
        "off": CheckText(
            "off: anyone who reaches the API can post leads and read statistics",
            "Set ENABLE_AUTH=true, SHARED_SECRET and STATS_TOKEN.",
        ),
        "public_secret": CheckText(
            "on, with the secret of the documentation", "Set SHARED_SECRET to a random value: openssl rand -hex 32."
        ),
        "short_secrets": CheckText(
            "on, with {secrets} secret(s) shorter than {length} characters",
            "Set longer secrets, which cannot be guessed: openssl rand -hex 32.",
        ),
    },
    "ALLOWED_HOSTS": {
        "ok": CheckText("{hosts}; requests for other host names get 400"),
        "warning": CheckText("any", "Set the host names under which senders reach the gateway."),
    },
    "SECRET_KEY": {
        "environment": CheckText("set by SECRET_KEY"),
        "file": CheckText("in {file}, readable by this user only"),
        "warning": CheckText("{file} is readable by other users", "chmod 600 {file}"),
    },
    "disk": {
        "ok": CheckText("{free_gib} GiB free in {directory}"),
        "warning": CheckText("{free_gib} GiB free in {directory}", "Free some space soon."),
        "failure": CheckText("{free_gib} GiB free in {directory}", "Free some space: no lead can be stored otherwise."),
    },
    "database_server": {
        "ok": CheckText("{name}, version {version}, {latency_ms} ms"),
        "warning": CheckText(
            "{name}, version {version}, {latency_ms} ms",
            "The webhook makes several queries within 500 ms: move the database closer.",
        ),
        "unavailable": CheckText("{name}: {error}", "Every lead is answered with 503 until it is available again."),
    },
    "journal": {
        "ok": CheckText("WAL"),
        "warning": CheckText(
            "{mode}, not WAL",
            "Readers and the writer block each other. Use a local file system: network shares do not support WAL.",
        ),
    },
    "database_tls": {
        "encrypted": CheckText("DB_SSLMODE={mode}, encrypted"),
        "ok": CheckText("DB_SSLMODE={mode}, not encrypted, local server"),
        "warning": CheckText(
            "DB_SSLMODE={mode}, not encrypted", "Leads are personal data: set DB_SSLMODE to require or verify-full."
        ),
    },
    "connections": {
        "ok": CheckText("at most {needed} for {processes} processes, {available} available"),
        "warning": CheckText(
            "at most {needed} for {processes} processes, {available} available",
            "Lower DB_MAX_OPEN_CONNS or WEB_PROCESSES, or raise max_connections.",
        ),
    },
    "worker_threads": {
        "warning": CheckText(
            "WORKER_CONCURRENCY {threads} > DB_MAX_OPEN_CONNS {connections}",
            "Worker threads wait for connections: raise DB_MAX_OPEN_CONNS.",
        )
    },
    "migrations": {
        "ok": CheckText("all {applied} applied"),
        "not_applied": CheckText("{number} not applied: {missing}", "manage.py migrate"),
        "unreadable": CheckText("cannot be read ({error})", "manage.py migrate"),
    },
    "audit_log": {
        "ok": CheckText("append-only and chained, by triggers"),
        "failure": CheckText(
            "can be changed; missing triggers: {missing}",
            "They were dropped or disabled, or a migration rebuilt the table. "
            "Run the migrations that create them again.",
        ),
    },
    "queue_server": {
        "queue_directory": CheckText("{name}"),
        "ok": CheckText("{name}, version {version}, {latency_ms} ms"),
        "warning": CheckText(
            "{name}, version {version}, {latency_ms} ms", "The webhook enqueues within 500 ms: move the broker closer."
        ),
        "too_old": CheckText("{name}, version {version}, {latency_ms} ms", "Use Redis 6 or newer."),
        "unavailable": CheckText(
            "{name}: {error}", "The webhook answers 503 until it is available again. Leads are stored all the same."
        ),
    },
    "redis_memory": {
        "ok": CheckText("maxmemory-policy {policy}"),
        "warning": CheckText(
            "maxmemory-policy {policy}", "Set noeviction: otherwise Redis may drop messages when it is full."
        ),
    },
    "redis_persistence": {
        "ok": CheckText("appendonly on"),
        "warning": CheckText(
            "appendonly off", "Set appendonly yes: otherwise queued leads wait for the sweep after a restart of Redis."
        ),
    },
    "worker_ping": {
        "ok": CheckText("answers: {workers}"),
        "no_answer": CheckText("no worker answers", "Start one: the line “worker” of the Procfile."),
        "queue_unavailable": CheckText("impossible while the queue is unavailable", "Fix the queue first."),
    },
    "mapping": {
        "ok": CheckText("{file}: {attributes} attributes, sha256 {sha256}"),
        "failure": CheckText("{error}", "Fix the file: no process starts with it."),
    },
    "CUSTOMER_API_URL": {
        "ok": CheckText("{url}"),
        "warning": CheckText("{url}", "Use https: leads are personal data and the token is a secret."),
        "placeholder": CheckText("{url}, a placeholder", "Set the URL that the customer gave you."),
        "failure": CheckText("{problem}", "Fix the URL: no process starts with it."),
    },
    "CUSTOMER_API_TOKEN": {
        "ok": CheckText("set"),
        "warning": CheckText("not set, or a placeholder", "Set the token that the customer gave you."),
    },
    "customer_connection": {
        "ok": CheckText("{host}:{port} connected in {took_ms} ms; no request was sent"),
        "tls_ok": CheckText("{host}:{port} connected in {took_ms} ms, {tls}, valid certificate; no request was sent"),
        "host_not_found": CheckText(
            "{host}: host name not found: {error}",
            "Attempts fail and are repeated until the customer is available again.",
        ),
        "tls": CheckText(
            "{host}: TLS failed: {error}", "Attempts fail and are repeated until the customer is available again."
        ),
        "no_connection": CheckText(
            "{host}: no connection: {error}", "Attempts fail and are repeated until the customer is available again."
        ),
    },
    "open_incident": {
        "warning": CheckText("{incident}, open for {open_for}; not failing now", "It closes after more good checks."),
    },
    "last_check": {
        "ok": CheckText("{gap} ago"),
        "failure": CheckText("{gap} ago", "No alerts are sent. Check that beat, a worker or a web process is running."),
        "starting": CheckText("none yet, because the processes have just started"),
        "never": CheckText("never", "Beat, a worker or a web process checks the pipeline. Start one of them."),
    },
}

_READINESS_REASONS = {
    ("database", None): "cannot be reached, or did not answer in time ({error})",
    ("queue", None): "cannot be reached ({error})",
    ("queue", "timed_out"): "did not answer in time",
    ("migrations", "not_applied"): "{number} not applied: {missing}",
    ("migrations", "unreadable"): "cannot be read ({error}); has `manage.py migrate` run?",
    ("migrations", "database_unavailable"): "not checked: the database is unavailable",
    ("mapping", None): "{error}",
}
