"""The dashboard's banners: what is wrong or needs attention, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.retry import MAX_RETRY_AFTER, RetryPolicy
from leadgateway.time_format import span
from stats.admin.dashboard_queries import State
from stats.admin.formatting import number
from stats.models import ProcessKind
from stats.monitoring.checks.pipeline import IncidentKind
from stats.monitoring.checks.result import Verdict
from stats.text.incidents import describe_incident, describe_problem

#: Shown at once. The state of delivery has a banner of its own.
_FROM_STATE = {
    IncidentKind.QUEUE_UNAVAILABLE,
    IncidentKind.NO_WORKER,
    IncidentKind.NO_BEAT,
    IncidentKind.LEADS_STUCK,
}

#: Shown only once they are incidents.
_FROM_INCIDENTS = {IncidentKind.DELIVERIES_FAIL, IncidentKind.QUEUE_DEEP, IncidentKind.SOURCE_SILENT}


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
    warnings = (_silent_workers, _several_beats, _attention)
    return [
        *_pipeline(state),
        *filter(None, [_too_old(state)]),
        *_incidents(state),
        *(banner for check in warnings if (banner := check(state))),
    ]


def list_url(**filters: str) -> str:
    """Return the address of the list of leads with filters."""
    return f"{reverse('admin:leads_inboundlead_changelist')}?{urlencode(filters)}"


# --- problems --------------------------------------------------------------------------------------------------------


def _pipeline(state: State) -> Iterator[Banner]:
    for result in state.results:
        if result.check in _FROM_STATE and result.verdict in (Verdict.WARNING, Verdict.FAILURE):
            text = describe_problem(IncidentKind(result.check), result.facts, now=state.at)
            yield Banner(text.problem, text.remedy)


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
        if incident.kind in _FROM_INCIDENTS:
            text = describe_incident(incident, now=state.at)
            yield Banner(
                text.problem,
                text.remedy,
                url=reverse("admin:stats_incident_change", args=[incident.pk]),
                link=_("Incident {id}").format(id=incident.pk),
            )


# --- warnings --------------------------------------------------------------------------------------------------------


def _silent_workers(state: State) -> Banner | None:
    silent = state.processes_of(ProcessKind.WORKER, running=False)
    if not silent or not state.processes_of(ProcessKind.WORKER, running=True):
        return None
    what = ngettext("{number} worker stopped unexpectedly", "{number} workers stopped unexpectedly", len(silent))
    advice = _(
        "Other workers have taken over. If you did not remove it, check its logs: {names}. "
        "This message disappears after a day."
    )
    names = ", ".join(each.name for each in silent)
    return Banner(what.format(number=len(silent)), advice.format(names=names), is_problem=False)


def _several_beats(state: State) -> Banner | None:
    if len(state.processes_of(ProcessKind.BEAT, running=True)) < 2:
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
