"""What is wrong, or wants a look, in words that say what to do; made from how things stand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.retry import MAX_RETRY_AFTER, RetryPolicy
from leadgateway.time_format import span
from stats.admin.dashboard_queries import State
from stats.models import ProcessKind
from stats.monitoring.checks.pipeline import IncidentKind
from stats.text.incidents import describe_incident, describe_problem

#: Which incidents the figures of the dashboard do not show by themselves.
_ONLY_CHECKED = {IncidentKind.DELIVERIES_FAIL, IncidentKind.QUEUE_DEEP, IncidentKind.SOURCE_SILENT}


@dataclass(frozen=True)
class Banner:
    """One thing that somebody should know. A problem keeps leads from being delivered; anything else wants a look."""

    what: str
    advice: str
    is_problem: bool = True
    url: str | None = None
    link: str = ""


def banners(state: State) -> list[Banner]:
    """Return what there is to say, the problems first; nothing when all is well."""
    problems = (_queue, _workers, _beat, _late, _too_old)
    others = (_silent_workers, _several_beats, _attention)
    return [
        *(banner for look in problems if (banner := look(state))),
        *_incidents(state),
        *(banner for look in others if (banner := look(state))),
    ]


def list_url(**filters: str) -> str:
    """Return the address of the list of leads, filtered."""
    return f"{reverse('admin:leads_inboundlead_changelist')}?{urlencode(filters)}"


# --- problems --------------------------------------------------------------------------------------------------------


def _queue(state: State) -> Banner | None:
    return _told(IncidentKind.QUEUE_UNAVAILABLE, state) if state.queued is None else None


def _workers(state: State) -> Banner | None:
    return _nobody(ProcessKind.WORKER, IncidentKind.NO_WORKER, state)


def _beat(state: State) -> Banner | None:
    return _nobody(ProcessKind.BEAT, IncidentKind.NO_BEAT, state)


def _nobody(process: ProcessKind, kind: IncidentKind, state: State) -> Banner | None:
    if state.of_kind(process, alive=True):
        return None
    silent = state.of_kind(process, alive=False)
    since = {"since": max(each.seen_at for each in silent).isoformat()} if silent else {}
    return _told(kind, state, **since)


def _late(state: State) -> Banner | None:
    late, since = state.in_progress.late, state.in_progress.late_since
    return _told(IncidentKind.LEADS_STUCK, state, leads=late, since=since.isoformat()) if late and since else None


def _told(kind: IncidentKind, state: State, **facts: Any) -> Banner:
    found = describe_problem(kind, facts, now=state.at)
    return Banner(found.problem, found.remedy)


def _too_old(state: State) -> Banner | None:
    lead_id, received_at = state.in_progress.oldest_first_run_id, state.in_progress.oldest_first_run
    if lead_id is None or received_at is None or state.at - received_at < _longest_way():
        return None
    return Banner(
        _("A lead is still undelivered {span} after it was received").format(span=span(state.at - received_at)),
        _("Its attempts should be over by now. See on its page what the customer answers, and look at the workers."),
        url=reverse("admin:leads_inboundlead_change", args=[lead_id]),
        link=_("Lead {id}").format(id=lead_id),
    )


def _incidents(state: State) -> Iterator[Banner]:
    """Return what only the check of the pipeline finds; everything else is told fresher above."""
    for incident in state.incidents:
        if incident.kind in _ONLY_CHECKED:
            found = describe_incident(incident, now=state.at)
            yield Banner(
                found.problem,
                found.remedy,
                url=reverse("admin:stats_incident_change", args=[incident.pk]),
                link=_("Incident {id}").format(id=incident.pk),
            )


def _longest_way() -> timedelta:
    """Return how long the attempts of a lead may take: the schedule, and the longest wait a customer may ask for."""
    policy = RetryPolicy(settings.MAX_RETRY_ATTEMPTS, settings.RETRY_BACKOFF_BASE)
    waits = (policy.delay_after(failures) for failures in range(1, policy.max_attempts))
    return sum(waits, MAX_RETRY_AFTER)


# --- what wants a look -----------------------------------------------------------------------------------------------


def _silent_workers(state: State) -> Banner | None:
    silent = state.of_kind(ProcessKind.WORKER, alive=False)
    if not silent or not state.of_kind(ProcessKind.WORKER, alive=True):
        return None
    what = ngettext("{number} worker ended without a word", "{number} workers ended without a word", len(silent))
    advice = _("Others do its work. If nobody took it away, see why it died: {names}. It is forgotten after a day.")
    names = ", ".join(each.name for each in silent)
    return Banner(what.format(number=len(silent)), advice.format(names=names), is_problem=False)


def _several_beats(state: State) -> Banner | None:
    if len(state.of_kind(ProcessKind.BEAT, alive=True)) < 2:
        return None
    advice = _("Nothing is delivered twice, but each asks the workers to look for work. Stop all but one.")
    return Banner(_("More than one beat is running"), advice, is_problem=False)


def _attention(state: State) -> Banner | None:
    number = state.need_attention
    if not number:
        return None
    what = ngettext("{number} lead needs attention", "{number} leads need attention", number)
    return Banner(
        what.format(number=number_format(number, force_grouping=True)),
        _("Nothing more happens to them by itself: redeliver or reprocess them, or mark them as settled."),
        is_problem=False,
        url=list_url(situation="attention"),
        link=_("Show"),
    )
