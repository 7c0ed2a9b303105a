"""The dashboard's banners: what is wrong or needs attention, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.retry import MAX_RETRY_AFTER, RetryPolicy
from leadgateway.time_format import span
from stats.admin.dashboard_queries import State
from stats.admin.formatting import number
from stats.models import Heartbeat
from stats.monitoring.rules import Kind
from stats.text.incidents import tell

#: Incidents that only the pipeline check finds. The dashboard's own numbers show the others, and are more recent.
_FROM_PIPELINE_CHECK = {Kind.DELIVERIES_FAIL, Kind.QUEUE_DEEP, Kind.SOURCE_SILENT}


@dataclass(frozen=True)
class Banner:
    """A message above a page. A problem keeps leads from being delivered; any other banner is a warning."""

    what: str
    advice: str
    is_problem: bool = True
    url: str | None = None
    link: str = ""


def banners(state: State) -> list[Banner]:
    """Return the banners for a state, problems first; an empty list when everything works."""
    problems = (_queue, _workers, _beat, _late, _too_old)
    warnings = (_silent_workers, _several_beats, _attention)
    return [
        *(banner for check in problems if (banner := check(state))),
        *_incidents(state),
        *(banner for check in warnings if (banner := check(state))),
    ]


def list_url(**filters: str) -> str:
    """Return the address of the list of leads with filters."""
    return f"{reverse('admin:leads_inboundlead_changelist')}?{urlencode(filters)}"


# --- problems --------------------------------------------------------------------------------------------------------


def _queue(state: State) -> Banner | None:
    return _incident_banner(Kind.QUEUE_UNAVAILABLE, state) if state.queued is None else None


def _workers(state: State) -> Banner | None:
    return _not_running(Heartbeat.Kind.WORKER, Kind.NO_WORKER, state)


def _beat(state: State) -> Banner | None:
    return _not_running(Heartbeat.Kind.BEAT, Kind.NO_BEAT, state)


def _not_running(process: Heartbeat.Kind, incident: Kind, state: State) -> Banner | None:
    if state.processes_of(process, running=True):
        return None
    silent = state.processes_of(process, running=False)
    since = {"since": max(each.seen_at for each in silent).isoformat()} if silent else {}
    return _incident_banner(incident, state, **since)


def _late(state: State) -> Banner | None:
    late, since = state.in_progress.late, state.in_progress.late_since
    return _incident_banner(Kind.LEADS_STUCK, state, leads=late, since=since.isoformat()) if late and since else None


def _incident_banner(kind: Kind, state: State, **facts: Any) -> Banner:
    text = tell(kind, facts, now=state.at)
    return Banner(text.what, text.advice)


def _too_old(state: State) -> Banner | None:
    lead_id, received_at = state.in_progress.oldest_first_run_id, state.in_progress.oldest_first_run
    if lead_id is None or received_at is None or state.at - received_at < _longest_schedule():
        return None
    return Banner(
        _("A lead is still undelivered {span} after it was received").format(span=span(state.at - received_at)),
        _("All attempts should be over by now. Check the customer's responses on its page, and check the workers."),
        url=reverse("admin:leads_inboundlead_change", args=[lead_id]),
        link=_("Lead {id}").format(id=lead_id),
    )


def _longest_schedule() -> timedelta:
    """Return the maximum duration of all attempts of a lead, including the longest Retry-After."""
    policy = RetryPolicy(settings.MAX_RETRY_ATTEMPTS, settings.RETRY_BACKOFF_BASE)
    waits = (policy.delay_after(failures) for failures in range(1, policy.max_attempts))
    return sum(waits, MAX_RETRY_AFTER)


def _incidents(state: State) -> Iterator[Banner]:
    for incident in state.incidents:
        if (kind := Kind(incident.kind)) in _FROM_PIPELINE_CHECK:
            text = tell(kind, incident.detail, now=state.at, subject=incident.subject)
            yield Banner(
                text.what,
                text.advice,
                url=reverse("admin:stats_incident_change", args=[incident.pk]),
                link=_("Incident {id}").format(id=incident.pk),
            )


# --- warnings --------------------------------------------------------------------------------------------------------


def _silent_workers(state: State) -> Banner | None:
    silent = state.processes_of(Heartbeat.Kind.WORKER, running=False)
    if not silent or not state.processes_of(Heartbeat.Kind.WORKER, running=True):
        return None
    what = ngettext("{number} worker stopped unexpectedly", "{number} workers stopped unexpectedly", len(silent))
    advice = _(
        "Other workers have taken over. If you did not remove it, check its logs: {names}. "
        "This message disappears after a day."
    )
    names = ", ".join(each.name for each in silent)
    return Banner(what.format(number=len(silent)), advice.format(names=names), is_problem=False)


def _several_beats(state: State) -> Banner | None:
    if len(state.processes_of(Heartbeat.Kind.BEAT, running=True)) < 2:
        return None
    advice = _("No lead is delivered twice, but periodic tasks run more often than needed. Stop all but one.")
    return Banner(_("More than one beat process is running"), advice, is_problem=False)


def _attention(state: State) -> Banner | None:
    if not state.need_attention:
        return None
    what = ngettext("{number} lead needs attention", "{number} leads need attention", state.need_attention)
    return Banner(
        what.format(number=number(state.need_attention)),
        _("No automatic retries left. Redeliver, reprocess or resolve them."),
        is_problem=False,
        url=list_url(situation="attention"),
        link=_("Show"),
    )
