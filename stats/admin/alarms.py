"""What is wrong, or wants a look, in words that say what to do; made from how things stand."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.retry import MAX_RETRY_AFTER, RetryPolicy
from leads.moments import span
from stats.figures import State
from stats.models import Heartbeat


@dataclass(frozen=True)
class Alarm:
    """One thing that somebody should know. A problem keeps leads from being delivered; anything else wants a look."""

    what: str
    advice: str
    is_problem: bool = True
    url: str | None = None
    link: str = ""


def alarms(state: State) -> list[Alarm]:
    """Return what there is to say, the problems first; nothing when all is well."""
    looks = (_queue, _workers, _beat, _late, _too_old, _silent_workers, _several_beats, _attention)
    return [alarm for look in looks if (alarm := look(state))]


def list_url(**filters: str) -> str:
    """Return the address of the list of leads, filtered."""
    return f"{reverse('admin:leads_inboundlead_changelist')}?{urlencode(filters)}"


# --- problems --------------------------------------------------------------------------------------------------------


def _queue(state: State) -> Alarm | None:
    if state.queued is not None:
        return None
    if settings.QUEUE_TYPE == "redis":
        advice = _("See whether Redis runs at REDIS_URL. Leads are kept all the same, and delivered once it is back.")
    else:
        advice = _("See whether VAR_DIR can be read. Leads are kept all the same, and delivered once it can.")
    return Alarm(_("The queue cannot be reached"), advice)


def _workers(state: State) -> Alarm | None:
    if state.of_kind(Heartbeat.Kind.WORKER, alive=True):
        return None
    advice = _("Leads are taken, but not delivered. Start one: {command}, or the line “worker” of the Procfile.")
    return Alarm(
        _last_seen(state, Heartbeat.Kind.WORKER) or _("No worker is running"),
        advice.format(command="docker-compose up -d worker"),
    )


def _beat(state: State) -> Alarm | None:
    if state.of_kind(Heartbeat.Kind.BEAT, alive=True):
        return None
    advice = _(
        "What waits for its next attempt, and what the queue has lost, is not looked for. "
        "Start it: {command}, or the line “beat” of the Procfile. If it runs, it cannot reach queue or database."
    )
    return Alarm(
        _last_seen(state, Heartbeat.Kind.BEAT) or _("Beat is not running"),
        advice.format(command="docker-compose up -d beat"),
    )


def _last_seen(state: State, kind: Heartbeat.Kind) -> str | None:
    silent = state.of_kind(kind, alive=False)
    if not silent:
        return None
    since = span(state.at - max(each.seen_at for each in silent))
    if kind == Heartbeat.Kind.BEAT:
        return _("Beat has been silent for {span}").format(span=since)
    return _("No worker is alive; the last one has been silent for {span}").format(span=since)


def _late(state: State) -> Alarm | None:
    late = state.under_way.late
    if not late or state.under_way.late_since is None:
        return None
    what = ngettext(
        "{number} lead is late: it has been due for {span}, and nobody works on it",
        "{number} leads are late: the first has been due for {span}, and nobody works on it",
        late,
    )
    return Alarm(
        what.format(number=number_format(late, force_grouping=True), span=span(state.at - state.under_way.late_since)),
        _("The workers cannot keep up, or stand still. Look at their logs; start more, or raise WORKER_CONCURRENCY."),
    )


def _too_old(state: State) -> Alarm | None:
    lead_id, received_at = state.under_way.oldest_first_run_id, state.under_way.oldest_first_run
    if lead_id is None or received_at is None or state.at - received_at < _longest_way():
        return None
    return Alarm(
        _("A lead is still undelivered {span} after it was received").format(span=span(state.at - received_at)),
        _("Its attempts should be over by now. See on its page what the customer answers, and look at the workers."),
        url=reverse("admin:leads_inboundlead_change", args=[lead_id]),
        link=_("Lead {id}").format(id=lead_id),
    )


def _longest_way() -> timedelta:
    """Return how long the attempts of a lead may take: the schedule, and the longest wait a customer may ask for."""
    policy = RetryPolicy(settings.MAX_RETRY_ATTEMPTS, settings.RETRY_BACKOFF_BASE)
    waits = (policy.delay_after(failures) for failures in range(1, policy.max_attempts))
    return sum(waits, MAX_RETRY_AFTER)


# --- what wants a look -----------------------------------------------------------------------------------------------


def _silent_workers(state: State) -> Alarm | None:
    silent = state.of_kind(Heartbeat.Kind.WORKER, alive=False)
    if not silent or not state.of_kind(Heartbeat.Kind.WORKER, alive=True):
        return None
    what = ngettext("{number} worker ended without a word", "{number} workers ended without a word", len(silent))
    advice = _("Others do its work. If nobody took it away, see why it died: {names}. It is forgotten after a day.")
    names = ", ".join(each.name for each in silent)
    return Alarm(what.format(number=len(silent)), advice.format(names=names), is_problem=False)


def _several_beats(state: State) -> Alarm | None:
    if len(state.of_kind(Heartbeat.Kind.BEAT, alive=True)) < 2:
        return None
    advice = _("Nothing is delivered twice, but each asks the workers to look for work. Stop all but one.")
    return Alarm(_("More than one beat is running"), advice, is_problem=False)


def _attention(state: State) -> Alarm | None:
    number = state.need_attention
    if not number:
        return None
    what = ngettext("{number} lead needs attention", "{number} leads need attention", number)
    return Alarm(
        what.format(number=number_format(number, force_grouping=True)),
        _("Nothing more happens to them by itself: redeliver or reprocess them, or mark them as settled."),
        is_problem=False,
        url=list_url(situation="attention"),
        link=_("Show"),
    )
