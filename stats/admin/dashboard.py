"""The dashboard: whether the gateway works, and the leads and deliveries of the last hours or days."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from delivery.models import BulkActionKind
from leadgateway.time_format import span
from leads.models import LeadStatus
from stats.admin import dashboard_queries, delivery_control, formatting
from stats.admin.banners import banners, list_url
from stats.admin.bulk_action_form import may_act, preview_url
from stats.admin.dashboard_queries import WINDOWS, Bar, Failures, State, Traffic, Window
from stats.admin.formatting import duration, number
from stats.models import Heartbeat, ProcessKind
from stats.monitoring.heartbeat import is_running
from stats.text.filters import NO_RESPONSE
from stats.text.reasons import response_text

#: Seconds between two refreshes of the page.
REFRESH_S = 15

#: The maximum number of groups of failures to list.
_MAX_GROUPS = 10

#: The order of the statuses in a bar, from top to bottom.
_STACK = (
    *(LeadStatus.PERMANENTLY_FAILED, LeadStatus.FAILED, LeadStatus.RECEIVED, LeadStatus.READY),
    *(LeadStatus.REJECTED, LeadStatus.DELIVERED),
)

_TABS = {"24h": gettext_lazy("24 hours"), "7d": gettext_lazy("7 days"), "30d": gettext_lazy("30 days")}
_WINDOW_TEXTS = {
    "24h": gettext_lazy("in the last 24 hours"),
    "7d": gettext_lazy("in the last 7 days"),
    "30d": gettext_lazy("in the last 30 days"),
}
_BAR_TEXTS = {
    "24h": gettext_lazy("Each bar is one hour."),
    "7d": gettext_lazy("Each bar is 6 hours."),
    "30d": gettext_lazy("Each bar is one day."),
}
_PROCESS_NAMES = {ProcessKind.WORKER: gettext_lazy("Worker"), ProcessKind.BEAT: gettext_lazy("Beat")}
_PROCESS_STATES = {True: (gettext_lazy("Running"), "delivered"), False: (gettext_lazy("Stopped"), "unknown")}

admin.site.index_template = "stats/admin/dashboard.html"


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the template context of the dashboard. It contains numbers only for users who may view leads."""
    context |= {"title": _("Dashboard"), "may_view": request.user.has_perm("leads.view_inboundlead")}
    return context | _dashboard(request) if context["may_view"] else context


def _dashboard(request: HttpRequest) -> dict[str, Any]:
    window = WINDOWS.get(request.GET.get("window", ""), WINDOWS["24h"])
    now = timezone.now()
    state = dashboard_queries.state(now=now)
    traffic = dashboard_queries.traffic(window, now=now)
    return {
        "refresh": REFRESH_S,
        "as_of": formatting.full_time(state.at),
        "banners": [*filter(None, [delivery_control.banner(request, now=now)]), *banners(state)],
        "tiles": _now_tiles(state),
        "processes": [_process(each, now=state.at) for each in state.processes],
        "failures": [_failures(group, request) for group in state.failures[:_MAX_GROUPS]],
        "other_failures": len(state.failures[_MAX_GROUPS:]),
        "traffic": _traffic(traffic, window) if state.has_leads else None,
        "tabs": [(code, label, code == window.code) for code, label in _TABS.items()],
        "window": _WINDOW_TEXTS[window.code],
        "first_lead": None if state.has_leads else _first_lead(request),
    }


# --- numbers ---------------------------------------------------------------------------------------------------------


def _share(part: int, whole: int) -> str:
    """Return a percentage such as `99.9 %`, rounded down so that only all of them are 100 %."""
    if not whole:
        return formatting.NOTHING
    return _("{number} %").format(number=number(part * 1000 // whole / 10, 1))


@dataclass(frozen=True)
class Tile:
    """A large number with a label and a note."""

    label: str
    value: str
    note: str = ""
    url: str | None = None


# --- the current state -----------------------------------------------------------------------------------------------


def _now_tiles(state: State) -> list[Tile]:
    workers = state.processes_of(ProcessKind.WORKER, running=True)
    beats = state.processes_of(ProcessKind.BEAT, running=True)
    return [
        Tile(_("In progress"), number(state.in_progress.leads), _("leads not delivered yet")),
        _oldest_tile(state),
        Tile(_("Queue"), _("unavailable"), _("no response in time"))
        if state.queued is None
        else Tile(_("Queue"), number(state.queued), _("leads waiting for a worker")),
        Tile(_("Workers"), _("{number} running").format(number=len(workers)), _last_heartbeat(state, workers)),
        Tile(_("Beat"), _("running") if beats else _("not running"), _last_heartbeat(state, beats)),
    ]


def _oldest_tile(state: State) -> Tile:
    oldest_id, received_at = state.in_progress.oldest_id, state.in_progress.oldest_received_at
    if oldest_id is None or received_at is None:
        return Tile(_("Oldest undelivered"), formatting.NOTHING, _("no lead in progress"))
    return Tile(
        _("Oldest undelivered"),
        span(state.at - received_at),
        _("Lead {id}").format(id=oldest_id),
        reverse("admin:leads_inboundlead_change", args=[oldest_id]),
    )


def _last_heartbeat(state: State, processes: list[Heartbeat]) -> str:
    if not processes:
        return _("no heartbeat")
    last = max(each.seen_at for each in processes)
    return _("last heartbeat {relative}").format(relative=formatting.relative_time(last, now=state.at))


def _process(process: Heartbeat, *, now: datetime) -> dict[str, Any]:
    kind = ProcessKind(process.kind)
    return {
        "kind": _PROCESS_NAMES[kind],
        "name": process.name,
        "badge": formatting.badge(*_PROCESS_STATES[is_running(process, now=now)]),
        "seen": formatting.full_time(process.seen_at, now=now),
        "started": formatting.full_time(process.started_at, now=now),
    }


def _failures(group: Failures, request: HttpRequest) -> dict[str, Any]:
    """Return a row of the table. Leads without a response may have no customer payload, so they are reprocessed."""
    url = list_url(situation="attention", answer=group.answer or NO_RESPONSE)
    if group.answer:
        kind, label = BulkActionKind.REDELIVER, _("Redeliver this group")
    else:
        kind, label = BulkActionKind.REPROCESS, _("Reprocess this group")
    return {
        "response": formatting.escape_invisible(response_text(group.answer) or _("No response yet")),
        "leads": ngettext("{number} lead", "{number} leads", group.leads).format(number=number(group.leads)),
        "oldest": formatting.full_time(group.oldest),
        "url": url,
        "action": label,
        "action_url": f"{preview_url(kind)}?{url.partition('?')[2]}" if may_act(request) else None,
    }


# --- the time window -------------------------------------------------------------------------------------------------


def _traffic(traffic: Traffic, window: Window) -> dict[str, Any]:
    leads = traffic.leads
    return {
        "at": formatting.full_time(traffic.at),
        "cached_for": span(window.cached_for),
        "summary": _summary(traffic, window),
        "has_leads": bool(leads),
        "chart": _chart(traffic.bars, window),
        "legend": [_legend(status, leads[status], leads.total()) for status in reversed(_STACK)],
        "tiles": _window_tiles(traffic),
        "rejections": [
            (reason, number(count), _share(count, leads.total()), list_url(status="REJECTED", reason=reason))
            for reason, count in traffic.rejections.items()
        ],
    }


def _summary(traffic: Traffic, window: Window) -> str:
    leads = traffic.leads.total()
    if not leads:
        return _("No leads were received {window}.").format(window=_WINDOW_TEXTS[window.code])
    hours = (traffic.at - traffic.bars[0].start) / timedelta(hours=1)
    text = ngettext(
        "{number} lead {window}, {average} per hour on average.",
        "{number} leads {window}, {average} per hour on average.",
        leads,
    )
    average = number(leads / hours, 1 if leads < 10 * hours else 0)
    return text.format(number=number(leads), window=_WINDOW_TEXTS[window.code], average=average)


def _legend(status: LeadStatus, count: int, total: int) -> dict[str, Any]:
    return {
        "tone": status.lower(),
        "label": status.label,
        "number": number(count),
        "share": _share(count, total),
        "url": list_url(status=status),
    }


def _window_tiles(traffic: Traffic) -> list[Tile]:
    leads = traffic.leads
    delivered, failed = leads[LeadStatus.DELIVERED], leads[LeadStatus.PERMANENTLY_FAILED]
    success = _("{delivered} delivered, {failed} permanently failed").format(
        delivered=number(delivered), failed=number(failed)
    )
    first_attempts = _("of {number} first attempts").format(number=number(traffic.first_attempts))
    return [
        Tile(_("Delivery success"), _share(delivered, delivered + failed), success),
        Tile(
            _("First-attempt success"),
            _share(traffic.first_attempts_succeeded, traffic.first_attempts),
            first_attempts,
        ),
        Tile(_("Median delivery time"), duration(traffic.median), _("from received to delivered")),
        Tile(_("p95 delivery time"), duration(traffic.p95), _("from received to delivered")),
    ]


# --- the chart -------------------------------------------------------------------------------------------------------


def _chart(bars: list[Bar], window: Window) -> dict[str, Any]:
    top = _scale(max(bar.leads.total() for bar in bars))
    return {
        "top": top,
        "axis": [number(top), number(top // 2), number(0)],
        "note": _BAR_TEXTS[window.code],
        "statuses": [status.label for status in reversed(_STACK)],
        "bars": [_bar(bar, window, is_first=not index) for index, bar in enumerate(bars)],
    }


def _scale(highest: int) -> int:
    """Return the end of the axis: a round, even number that is at least the highest bar."""
    power = 10 ** int(math.log10(max(highest, 1)))
    ends = (step * power for step in range(1, 11))
    return next(end for end in ends if end >= highest and end % 2 == 0)


def _bar(bar: Bar, window: Window, *, is_first: bool) -> dict[str, Any]:
    label, day = _bar_label(timezone.localtime(bar.start), window, is_first=is_first)
    total = bar.leads.total()
    return {
        "label": label,
        "day": day,
        "title": _bar_title(bar, window),
        "total": total,
        "total_shown": number(total),
        "parts": [(status.lower(), bar.leads[status]) for status in _STACK if bar.leads[status]],
        "numbers": [number(bar.leads[status]) for status in reversed(_STACK)],
    }


def _bar_label(start: datetime, window: Window, *, is_first: bool) -> tuple[str, str]:
    """Return the label of a bar, and the label below it where a new day or month begins."""
    if window.hours == 24:
        return date_format(start, "j"), date_format(start, "M") if is_first or start.day == 1 else ""
    hour = time_format(start, "H:i" if window.hours == 1 else "H")
    return hour, date_format(start, "D j") if is_first or start.hour == 0 else ""


def _bar_title(bar: Bar, window: Window) -> str:
    start, end = timezone.localtime(bar.start), timezone.localtime(bar.end)
    day = f"{date_format(start, 'D')} {date_format(start, 'SHORT_DATE_FORMAT')}"
    return day if window.hours == 24 else f"{day} {time_format(start, 'H:i')}–{time_format(end, 'H:i')}"


# --- the first lead --------------------------------------------------------------------------------------------------


def _first_lead(request: HttpRequest) -> str:
    """Return a command that sends a lead."""
    lead = '{"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": true}}'
    headers = ["Content-Type: application/json"] + ["X-Shared-Secret: $SHARED_SECRET"] * settings.ENABLE_AUTH
    return " \\\n  ".join(
        [
            f"curl -X POST {request.build_absolute_uri('/webhooks/leads')}",
            *(f'-H "{header}"' for header in headers),
            f"-d '{lead}'",
        ]
    )
