"""Sentences about the checks of the pipeline and their incidents: what is wrong, and what to do about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

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
    """The texts of one kind of incident. The facts of the check's result fill in the names in braces."""

    #: For lists.
    name: Any
    #: Label of the check in a terminal.
    label: str
    problem: Any
    remedy: Any
    #: The good result in a terminal, from its facts.
    good: Callable[[Facts], str]
    #: The problem when it is known since when it lasts.
    lasting_problem: Any = None


def describe_incident(incident: Incident, *, now: datetime) -> Description:
    """Return what was wrong when the incident was last seen, with durations as of `now`."""
    return describe_problem(IncidentKind(incident.kind), incident.detail, now=now, subject=incident.subject)


def describe_problem(kind: IncidentKind, facts: Facts, *, now: datetime, subject: str = "") -> Description:
    """Return what is wrong, from the facts of a check's result."""
    text = INCIDENTS[kind]
    problem, remedy = text.problem, text.remedy
    if kind is IncidentKind.QUEUE_UNAVAILABLE and settings.QUEUE_TYPE != "redis":
        remedy = _RABBITMQ_REMEDY if settings.QUEUE_TYPE == "rabbitmq" else _QUEUE_DIRECTORY_REMEDY
    if kind is IncidentKind.SOURCE_SILENT and not subject:
        problem = _NO_LEAD_ARRIVED
    values: dict[str, Any] = {"source": subject, "command": _COMMANDS.get(kind)}
    if "since" in facts:
        problem = text.lasting_problem or problem
        values["span"] = span(now - datetime.fromisoformat(facts["since"]))
    for name, value in facts.items():
        # The plural forms need the number as `count`, the texts need it as `number`.
        values[name] = number_format(value, force_grouping=True) if isinstance(value, int) else value
        if name in ("leads", "depth", "a_week_ago"):
            values |= {"count": value, "number": values[name]}
    return Description(problem.format(**values), remedy.format(**values))


def attempts_summary(facts: Facts) -> str:
    """Return the number of failed attempts for a terminal."""
    if not facts["attempts"]:
        return f"no attempts within {facts['minutes']} min"
    return f"{facts['failed']} of {facts['attempts']} attempts failed within {facts['minutes']} min"


_QUEUE_DIRECTORY_REMEDY = _(
    "Check that VAR_DIR can be read. Leads are stored, and delivered when it is available again."
)
_RABBITMQ_REMEDY = _(
    "Check that RabbitMQ runs at QUEUE_URL. Leads are stored, and delivered when it is available again."
)
_NO_LEAD_ARRIVED = _("No lead has arrived for {span}")

INCIDENTS: dict[IncidentKind, IncidentText] = {
    IncidentKind.DATABASE_UNAVAILABLE: IncidentText(
        _("Database unavailable"),
        "database",
        _("The database cannot be reached"),
        _("Senders get 503 and must send again. Check that the server runs and has disk space: manage.py doctor."),
        lambda _facts: "reachable",
    ),
    IncidentKind.QUEUE_UNAVAILABLE: IncidentText(
        _("Queue unavailable"),
        "queue",
        _("The queue cannot be reached"),
        _("Check that Redis runs at REDIS_URL. Leads are stored, and delivered when it is available again."),
        lambda _facts: "reachable",
    ),
    IncidentKind.NO_WORKER: IncidentText(
        _("No worker"),
        "workers",
        _("No worker is running"),
        _("Leads are accepted but not delivered. Start a worker: {command}, or the line “worker” of the Procfile."),
        lambda facts: f"{facts['running']} running",
        _("No worker is running; the last heartbeat was {span} ago"),
    ),
    IncidentKind.NO_BEAT: IncidentText(
        _("No beat"),
        "beat",
        _("Beat is not running"),
        _(
            "Retries and lost messages are not enqueued. Start beat: {command}, or the line “beat” of the Procfile. "
            "If it is running, it cannot reach the queue or the database."
        ),
        lambda facts: "running" if facts["running"] == 1 else f"{facts['running']} running, one is enough",
        _("Beat is not running; its last heartbeat was {span} ago"),
    ),
    IncidentKind.LEADS_STUCK: IncidentText(
        _("Leads stuck"),
        "leads",
        ngettext_lazy(
            "{number} lead is late: it has been due for {span} and no worker has taken it",
            "{number} leads are late: the first has been due for {span} and no worker has taken it",
            "count",
        ),
        _("The workers are too slow or blocked. Check their logs. Start more workers, or raise WORKER_CONCURRENCY."),
        lambda _facts: "none is late",
    ),
    IncidentKind.DELIVERIES_FAIL: IncidentText(
        _("Deliveries fail"),
        "deliveries",
        _("{failed} of {attempts} delivery attempts failed within {minutes} minutes"),
        _(
            "Check the customer's responses in the list of attempts. "
            "For 401, 403 or 404, check CUSTOMER_API_TOKEN and CUSTOMER_API_URL."
        ),
        attempts_summary,
    ),
    IncidentKind.CUSTOMER_DOWN: IncidentText(
        _("Customer down"),
        "customer",
        _("The customer has been down for {span}"),
        _("Leads wait, and are delivered when the customer is available again. Inform the customer."),
        lambda _facts: "not marked as down",
    ),
    IncidentKind.DELIVERY_PAUSED: IncidentText(
        _("Delivery paused for long"),
        "delivery",
        _("Delivery has been paused for {span}"),
        _("Leads wait until delivery is resumed: {command}. manage.py pipeline_status shows who paused it and why."),
        lambda _facts: "not paused",
    ),
    IncidentKind.QUEUE_DEEP: IncidentText(
        _("Queue too deep"),
        "queue depth",
        ngettext_lazy("{number} lead waits for a worker", "{number} leads wait for a worker", "count"),
        _("More leads are accepted than delivered. Start more workers, or raise WORKER_CONCURRENCY."),
        lambda facts: f"{facts['depth']} leads",
    ),
    IncidentKind.SOURCE_SILENT: IncidentText(
        _("Source silent"),
        "source",
        _("“{source}” has sent no lead for {span}"),
        _(
            "A week ago, {number} leads arrived in this period. "
            "Check whether requests are refused. If there are none, ask the sender."
        ),
        lambda _facts: "sends as usual",
    ),
}

_COMMANDS = {
    IncidentKind.NO_WORKER: "docker-compose up -d worker",
    IncidentKind.NO_BEAT: "docker-compose up -d beat",
    IncidentKind.DELIVERY_PAUSED: "manage.py resume_delivery",
}
