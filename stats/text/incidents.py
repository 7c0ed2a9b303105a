"""Sentences about the checks of the pipeline and their incidents: what is wrong, and what to do about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from leadgateway.time_format import span
from stats.models import Incident
from stats.monitoring.checks.pipeline import IncidentKind

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Description:
    """What is wrong, and what to do about it, in the reader's language."""

    problem: str
    remedy: str


@dataclass(frozen=True)
class IncidentText:
    """The texts of one kind of incident."""

    #: For lists.
    name: Any
    #: Label of the check in a terminal.
    label: str
    describe: Callable[[Facts, datetime, str], Description]
    #: The good result in a terminal, from its facts.
    good: Callable[[Facts], str]


def describe_incident(incident: Incident, *, now: datetime) -> Description:
    """Return what was wrong when the incident was last seen, with durations as of `now`."""
    return describe_problem(IncidentKind(incident.kind), incident.detail, now=now, subject=incident.subject)


def describe_problem(kind: IncidentKind, facts: Facts, *, now: datetime, subject: str = "") -> Description:
    """Return what is wrong, from the facts of a check's result."""
    return INCIDENTS[kind].describe(facts, now, subject)


def _duration(facts: Facts, now: datetime) -> str | None:
    return span(now - datetime.fromisoformat(facts["since"])) if "since" in facts else None


def _number(number: int) -> str:
    return str(number_format(number, force_grouping=True))


def _database(_facts: Facts, _now: datetime, _subject: str) -> Description:
    remedy = _("Senders get 503 and must send again. Check that the server runs and has disk space: manage.py doctor.")
    return Description(_("The database cannot be reached"), remedy)


def _queue(_facts: Facts, _now: datetime, _subject: str) -> Description:
    if settings.QUEUE_TYPE == "redis":
        remedy = _("Check that Redis runs at REDIS_URL. Leads are stored, and delivered when it is available again.")
    else:
        remedy = _("Check that VAR_DIR can be read. Leads are stored, and delivered when it is available again.")
    return Description(_("The queue cannot be reached"), remedy)


def _worker(facts: Facts, now: datetime, _subject: str) -> Description:
    problem = _("No worker is running")
    if duration := _duration(facts, now):
        problem = _("No worker is running; the last heartbeat was {span} ago").format(span=duration)
    remedy = _("Leads are accepted but not delivered. Start a worker: {command}, or the line “worker” of the Procfile.")
    return Description(problem, remedy.format(command="docker-compose up -d worker"))


def _beat(facts: Facts, now: datetime, _subject: str) -> Description:
    problem = _("Beat is not running")
    if duration := _duration(facts, now):
        problem = _("Beat is not running; its last heartbeat was {span} ago").format(span=duration)
    remedy = _(
        "Retries and lost messages are not enqueued. Start beat: {command}, or the line “beat” of the Procfile. "
        "If it is running, it cannot reach the queue or the database."
    )
    return Description(problem, remedy.format(command="docker-compose up -d beat"))


def _stuck(facts: Facts, now: datetime, _subject: str) -> Description:
    problem = ngettext(
        "{number} lead is late: it has been due for {span} and no worker has taken it",
        "{number} leads are late: the first has been due for {span} and no worker has taken it",
        facts["leads"],
    )
    return Description(
        problem.format(number=_number(facts["leads"]), span=_duration(facts, now)),
        _("The workers are too slow or blocked. Check their logs. Start more workers, or raise WORKER_CONCURRENCY."),
    )


def _failing(facts: Facts, _now: datetime, _subject: str) -> Description:
    problem = _("{failed} of {attempts} delivery attempts failed within {minutes} minutes")
    remedy = _(
        "Check the customer's responses in the list of attempts. "
        "For 401, 403 or 404, check CUSTOMER_API_TOKEN and CUSTOMER_API_URL."
    )
    numbers = {name: _number(facts[name]) for name in ("failed", "attempts", "minutes")}
    return Description(problem.format(**numbers), remedy)


def _customer(facts: Facts, now: datetime, _subject: str) -> Description:
    remedy = _("Leads wait, and are delivered when the customer is available again. Inform the customer.")
    return Description(_("The customer has been down for {span}").format(span=_duration(facts, now)), remedy)


def _paused(facts: Facts, now: datetime, _subject: str) -> Description:
    remedy = _(
        "Leads wait until delivery is resumed: {command}. manage.py pipeline_status shows who paused it and why."
    )
    return Description(
        _("Delivery has been paused for {span}").format(span=_duration(facts, now)),
        remedy.format(command="manage.py resume_delivery"),
    )


def _deep(facts: Facts, _now: datetime, _subject: str) -> Description:
    problem = ngettext("{number} lead waits for a worker", "{number} leads wait for a worker", facts["depth"])
    remedy = _("More leads are accepted than delivered. Start more workers, or raise WORKER_CONCURRENCY.")
    return Description(problem.format(number=_number(facts["depth"])), remedy)


def _silent(facts: Facts, now: datetime, subject: str) -> Description:
    values = {"source": subject, "span": _duration(facts, now), "number": _number(facts["a_week_ago"])}
    problem = _("“{source}” has sent no lead for {span}") if subject else _("No lead has arrived for {span}")
    remedy = _(
        "A week ago, {number} leads arrived in this period. "
        "Check whether requests are refused. If there are none, ask the sender."
    )
    return Description(problem.format(**values), remedy.format(**values))


def attempts_summary(facts: Facts) -> str:
    """Return the number of failed attempts for a terminal."""
    if not facts["attempts"]:
        return f"no attempts within {facts['minutes']} min"
    return f"{facts['failed']} of {facts['attempts']} attempts failed within {facts['minutes']} min"


INCIDENTS: dict[IncidentKind, IncidentText] = {
    IncidentKind.DATABASE_UNAVAILABLE: IncidentText(
        gettext_lazy("Database unavailable"), "database", _database, lambda _facts: "reachable"
    ),
    IncidentKind.QUEUE_UNAVAILABLE: IncidentText(
        gettext_lazy("Queue unavailable"), "queue", _queue, lambda _facts: "reachable"
    ),
    IncidentKind.NO_WORKER: IncidentText(
        gettext_lazy("No worker"), "workers", _worker, lambda facts: f"{facts['running']} running"
    ),
    IncidentKind.NO_BEAT: IncidentText(
        gettext_lazy("No beat"),
        "beat",
        _beat,
        lambda facts: "running" if facts["running"] == 1 else f"{facts['running']} running, one is enough",
    ),
    IncidentKind.LEADS_STUCK: IncidentText(gettext_lazy("Leads stuck"), "leads", _stuck, lambda _facts: "none is late"),
    IncidentKind.DELIVERIES_FAIL: IncidentText(
        gettext_lazy("Deliveries fail"), "deliveries", _failing, attempts_summary
    ),
    IncidentKind.CUSTOMER_DOWN: IncidentText(
        gettext_lazy("Customer down"), "customer", _customer, lambda _facts: "not marked as down"
    ),
    IncidentKind.DELIVERY_PAUSED: IncidentText(
        gettext_lazy("Delivery paused for long"), "delivery", _paused, lambda _facts: "not paused"
    ),
    IncidentKind.QUEUE_DEEP: IncidentText(
        gettext_lazy("Queue too deep"), "queue depth", _deep, lambda facts: f"{facts['depth']} messages"
    ),
    IncidentKind.SOURCE_SILENT: IncidentText(
        gettext_lazy("Source silent"), "source", _silent, lambda _facts: "sends as usual"
    ),
}
