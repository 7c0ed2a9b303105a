"""Incidents in words: what is wrong, and what to do about it. The only place that has them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from leadgateway.time_format import span
from stats.monitoring.rules import Kind

Facts = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What is wrong, and what to do about it, in the reader's language."""

    what: str
    advice: str


#: What an incident is called in a list, where one word has to do.
NAMES = {
    Kind.DATABASE_UNAVAILABLE: gettext_lazy("Database away"),
    Kind.QUEUE_UNAVAILABLE: gettext_lazy("Queue away"),
    Kind.NO_WORKER: gettext_lazy("No worker"),
    Kind.NO_BEAT: gettext_lazy("No beat"),
    Kind.LEADS_STUCK: gettext_lazy("Leads are stuck"),
    Kind.DELIVERIES_FAIL: gettext_lazy("Deliveries fail"),
    Kind.CUSTOMER_DOWN: gettext_lazy("Customer down"),
    Kind.DELIVERY_PAUSED: gettext_lazy("Delivery held for long"),
    Kind.QUEUE_DEEP: gettext_lazy("Queue is deep"),
    Kind.SOURCE_SILENT: gettext_lazy("A source is silent"),
}


def tell(kind: Kind, facts: Facts, *, now: datetime, subject: str = "") -> Told:
    """Say what is wrong at a moment, and what to do.

    :param facts: as the rules found them.
    """
    return _WORDS[kind](facts, now, subject)


def _for_how_long(facts: Facts, now: datetime) -> str | None:
    return span(now - datetime.fromisoformat(facts["since"])) if "since" in facts else None


def _number(number: int) -> str:
    return str(number_format(number, force_grouping=True))


def _database(_facts: Facts, _at: datetime, _subject: str) -> Told:
    advice = _("Senders get 503 and have to send again. See whether it runs, and has room: manage.py doctor.")
    return Told(_("The database cannot be reached"), advice)


def _queue(_facts: Facts, _at: datetime, _subject: str) -> Told:
    if settings.QUEUE_TYPE == "redis":
        advice = _("See whether Redis runs at REDIS_URL. Leads are kept all the same, and delivered once it is back.")
    else:
        advice = _("See whether VAR_DIR can be read. Leads are kept all the same, and delivered once it can.")
    return Told(_("The queue cannot be reached"), advice)


def _worker(facts: Facts, now: datetime, _subject: str) -> Told:
    advice = _("Leads are taken, but not delivered. Start one: {command}, or the line “worker” of the Procfile.")
    silent_for = _for_how_long(facts, now)
    what = _("No worker is alive; the last one has been silent for {span}") if silent_for else _("No worker is running")
    return Told(what.format(span=silent_for), advice.format(command="docker-compose up -d worker"))


def _beat(facts: Facts, now: datetime, _subject: str) -> Told:
    advice = _(
        "What waits for its next attempt, and what the queue has lost, is not looked for. "
        "Start it: {command}, or the line “beat” of the Procfile. If it runs, it cannot reach queue or database."
    )
    silent_for = _for_how_long(facts, now)
    what = _("Beat has been silent for {span}") if silent_for else _("Beat is not running")
    return Told(what.format(span=silent_for), advice.format(command="docker-compose up -d beat"))


def _stuck(facts: Facts, now: datetime, _subject: str) -> Told:
    what = ngettext(
        "{number} lead is late: it has been due for {span}, and nobody works on it",
        "{number} leads are late: the first has been due for {span}, and nobody works on it",
        facts["leads"],
    )
    return Told(
        what.format(number=_number(facts["leads"]), span=_for_how_long(facts, now)),
        _("The workers cannot keep up, or stand still. Look at their logs; start more, or raise WORKER_CONCURRENCY."),
    )


def _failing(facts: Facts, _at: datetime, _subject: str) -> Told:
    what = _("{failed} of {attempts} attempts to deliver failed within {minutes} minutes")
    told = {name: _number(facts[name]) for name in ("failed", "attempts", "minutes")}
    advice = _(
        "See in the list of attempts what the customer answers. 401, 403 or 404: is the token right, the address?"
    )
    return Told(what.format(**told), advice)


def _customer(facts: Facts, now: datetime, _subject: str) -> Told:
    advice = _("Leads wait, and follow by themselves when it is back. Tell the customer: he may not know.")
    return Told(_("The customer has been down for {span}").format(span=_for_how_long(facts, now)), advice)


def _held(facts: Facts, now: datetime, _subject: str) -> Told:
    advice = _("Leads wait until somebody resumes: {command}. Who holds it, and why, is told by manage.py doctor.")
    return Told(
        _("Delivery has been held for {span}").format(span=_for_how_long(facts, now)),
        advice.format(command="manage.py resume_delivery"),
    )


def _deep(facts: Facts, _at: datetime, _subject: str) -> Told:
    what = ngettext("{number} lead waits for a worker", "{number} leads wait for a worker", facts["depth"])
    advice = _("More come in than go out. Start more workers, or raise WORKER_CONCURRENCY.")
    return Told(what.format(number=_number(facts["depth"])), advice)


def _silent(facts: Facts, now: datetime, subject: str) -> Told:
    told = {"source": subject, "span": _for_how_long(facts, now), "number": _number(facts["a_week_ago"])}
    what = _("“{source}” has sent no lead for {span}") if subject else _("No lead has come for {span}")
    advice = _("A week ago {number} came in this time. See whether posts are refused; if none comes, ask the sender.")
    return Told(what.format(**told), advice.format(**told))


_WORDS: dict[Kind, Callable[[Facts, datetime, str], Told]] = {
    Kind.DATABASE_UNAVAILABLE: _database,
    Kind.QUEUE_UNAVAILABLE: _queue,
    Kind.NO_WORKER: _worker,
    Kind.NO_BEAT: _beat,
    Kind.LEADS_STUCK: _stuck,
    Kind.DELIVERIES_FAIL: _failing,
    Kind.CUSTOMER_DOWN: _customer,
    Kind.DELIVERY_PAUSED: _held,
    Kind.QUEUE_DEEP: _deep,
    Kind.SOURCE_SILENT: _silent,
}
