"""The first page: whether the gateway does well, what came in lately, and what became of it."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format, time_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from leadgateway.time_format import span
from leads.models import LeadStatus
from stats.admin import dashboard_queries, delivery_control, formatting
from stats.admin.banners import banners, list_url
from stats.admin.dashboard_queries import WINDOWS, Bar, Failures, State, Traffic, Window
from stats.admin.filters import NEVER_ANSWERED
from stats.models import Heartbeat, ProcessKind
from stats.monitoring.heartbeat import is_running
from stats.text.stored_texts import translate_stored_text

#: Seconds from one look to the next.
REFRESH = 15

#: How many groups of failures have a line of their own.
_GROUPS = 10

#: From the top of a bar to its foot.
_STACK = (
    *(LeadStatus.PERMANENTLY_FAILED, LeadStatus.FAILED, LeadStatus.RECEIVED, LeadStatus.READY),
    *(LeadStatus.REJECTED, LeadStatus.DELIVERED),
)

_TABS = {"24h": gettext_lazy("24 hours"), "7d": gettext_lazy("7 days"), "30d": gettext_lazy("30 days")}
_IN_WORDS = {
    "24h": gettext_lazy("in the last 24 hours"),
    "7d": gettext_lazy("in the last 7 days"),
    "30d": gettext_lazy("in the last 30 days"),
}
_BAR_IN_WORDS = {
    "24h": gettext_lazy("One bar is one hour."),
    "7d": gettext_lazy("One bar is 6 hours."),
    "30d": gettext_lazy("One bar is one day."),
}
_PROCESSES = {ProcessKind.WORKER: gettext_lazy("Worker"), ProcessKind.BEAT: gettext_lazy("Beat")}

admin.site.index_template = "stats/admin/dashboard.html"


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the admin's first page: its dashboard_queries, for those who may see leads."""
    context |= {"title": _("Dashboard"), "may_view": request.user.has_perm("leads.view_inboundlead")}
    return context | _dashboard(request) if context["may_view"] else context


def _dashboard(request: HttpRequest) -> dict[str, Any]:
    window = WINDOWS.get(request.GET.get("window", ""), WINDOWS["24h"])
    now = timezone.now()
    state = dashboard_queries.state(now=now)
    traffic = dashboard_queries.traffic(window, now=now)
    return {
        "refresh": REFRESH,
        "as_of": formatting.moment(state.at),
        "alarms": [*filter(None, [delivery_control.banner(request, now=now)]), *banners(state)],
        "tiles": _now_tiles(state),
        "processes": [_process(each, now=state.at) for each in state.processes],
        "failures": [_failures(group, request) for group in state.failures[:_GROUPS]],
        "other_failures": len(state.failures[_GROUPS:]),
        "traffic": _traffic(traffic, window) if state.has_leads else None,
        "tabs": [(code, label, code == window.code) for code, label in _TABS.items()],
        "window": _IN_WORDS[window.code],
        "first_lead": None if state.has_leads else _first_lead(request),
    }


# --- numbers ---------------------------------------------------------------------------------------------------------


def _number(number: float, decimals: int = 0) -> str:
    return number_format(round(number, decimals), decimals, force_grouping=True)  # which would cut off, not round


def _share(part: int, whole: int) -> str:
    """Return a share such as `99.9 %`; rounded down, so that only all is 100 %."""
    if not whole:
        return formatting.NOTHING
    return _("{number} %").format(number=_number(part * 1000 // whole / 10, 1))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return formatting.NOTHING
    return span(timedelta(seconds=seconds)) if seconds >= 10 else f"{_number(seconds, 1)} s"


@dataclass(frozen=True)
class Tile:
    """A figure that is seen from afar, and what it says."""

    label: str
    value: str
    note: str = ""
    url: str | None = None


# --- now -------------------------------------------------------------------------------------------------------------


def _now_tiles(state: State) -> list[Tile]:
    return [_under_way_tile(state), _oldest_tile(state), _queue_tile(state), _workers_tile(state), _beat_tile(state)]


def _under_way_tile(state: State) -> Tile:
    return Tile(_("Under way"), _number(state.in_progress.leads), _("leads that are still to be delivered"))


def _oldest_tile(state: State) -> Tile:
    oldest_id, received_at = state.in_progress.oldest_id, state.in_progress.oldest_received_at
    if oldest_id is None or received_at is None:
        return Tile(_("Oldest undelivered"), formatting.NOTHING, _("none is under way"))
    return Tile(
        _("Oldest undelivered"),
        span(state.at - received_at),
        _("Lead {id}").format(id=oldest_id),
        reverse("admin:leads_inboundlead_change", args=[oldest_id]),
    )


def _queue_tile(state: State) -> Tile:
    if state.queued is None:
        return Tile(_("Queue"), _("away"), _("it did not answer in time"))
    return Tile(_("Queue"), _number(state.queued), _("leads that wait for a free worker"))


def _workers_tile(state: State) -> Tile:
    alive = state.of_kind(ProcessKind.WORKER, alive=True)
    return Tile(_("Workers"), _("{number} alive").format(number=len(alive)), _last_beat(state, alive))


def _beat_tile(state: State) -> Tile:
    alive = state.of_kind(ProcessKind.BEAT, alive=True)
    return Tile(_("Beat"), _("alive") if alive else _("silent"), _last_beat(state, alive))


def _last_beat(state: State, processes: list[Heartbeat]) -> str:
    if not processes:
        return _("no heartbeat")
    last = max(each.seen_at for each in processes)
    return _("last heartbeat {relative}").format(relative=formatting.relative(last, now=state.at))


def _process(process: Heartbeat, *, now: datetime) -> dict[str, Any]:
    kind = ProcessKind(process.kind)
    alive = is_running(process, now=now)
    return {
        "kind": _PROCESSES[kind],
        "name": process.name,
        "badge": formatting.badge(_("alive"), "delivered") if alive else formatting.badge(_("silent"), "unknown"),
        "seen": formatting.moment(process.seen_at, now=now),
        "started": formatting.moment(process.started_at, now=now),
    }


def _failures(group: Failures, request: HttpRequest) -> dict[str, Any]:
    """Return a line of the table; what was never answered may have to be mapped anew first."""
    url = list_url(situation="attention", answer=group.answer or NEVER_ANSWERED)
    kind, order = ("redeliver", _("Redeliver this group")) if group.answer else ("reprocess", _("Reprocess this group"))
    may_act = request.user.has_perm("leads.act_on_lead")
    return {
        "answer": _answer(group.answer),
        "leads": ngettext("{number} lead", "{number} leads", group.leads).format(number=_number(group.leads)),
        "oldest": formatting.moment(group.oldest),
        "url": url,
        "order": order,
        "order_url": f"{reverse('admin:leads_order', args=[kind])}?{url.partition('?')[2]}" if may_act else None,
    }


def _answer(answer: str | None) -> str:
    if answer is None:
        return _("never answered")
    return f"HTTP {answer}" if answer.isdecimal() else formatting.visible(translate_stored_text(answer))


# --- in the window ---------------------------------------------------------------------------------------------------


def _traffic(traffic: Traffic, window: Window) -> dict[str, Any]:
    leads = traffic.leads
    return {
        "at": formatting.moment(traffic.at),
        "kept_for": span(window.kept_for),
        "summary": _summary(traffic, window),
        "has_leads": bool(leads),
        "chart": _chart(traffic.bars, window),
        "legend": [_legend(status, leads[status], leads.total()) for status in reversed(_STACK)],
        "tiles": _window_tiles(traffic),
        "rejections": [
            (reason, _number(number), _share(number, leads.total()), list_url(status="REJECTED", reason=reason))
            for reason, number in traffic.rejections.items()
        ],
    }


def _summary(traffic: Traffic, window: Window) -> str:
    number = traffic.leads.total()
    if not number:
        return _("No lead was received {in_window}.").format(in_window=_IN_WORDS[window.code])
    hours = (traffic.at - traffic.bars[0].start) / timedelta(hours=1)
    text = ngettext(
        "{number} lead {in_window}, {average} an hour on average.",
        "{number} leads {in_window}, {average} an hour on average.",
        number,
    )
    average = _number(number / hours, 1 if number < 10 * hours else 0)
    return text.format(number=_number(number), in_window=_IN_WORDS[window.code], average=average)


def _legend(status: LeadStatus, number: int, total: int) -> dict[str, Any]:
    return {
        "tone": status.lower(),
        "label": status.label,
        "number": _number(number),
        "share": _share(number, total),
        "url": list_url(status=status),
    }


def _window_tiles(traffic: Traffic) -> list[Tile]:
    leads = traffic.leads
    delivered, lost = leads[LeadStatus.DELIVERED], leads[LeadStatus.PERMANENTLY_FAILED]
    succeeded = _("{delivered} delivered, {failed} permanently failed").format(
        delivered=_number(delivered), failed=_number(lost)
    )
    at_once = _("of {number} first attempts").format(number=_number(traffic.first_attempts))
    return [
        Tile(_("Delivery success"), _share(delivered, delivered + lost), succeeded),
        Tile(_("At the first attempt"), _share(traffic.succeeded_at_once, traffic.first_attempts), at_once),
        Tile(_("Half are delivered within"), _duration(traffic.median), _("from accepted to delivered (p50)")),
        Tile(_("95 % are delivered within"), _duration(traffic.p95), _("from accepted to delivered (p95)")),
    ]


# --- the chart -------------------------------------------------------------------------------------------------------


def _chart(bars: list[Bar], window: Window) -> dict[str, Any]:
    top = _scale(max(bar.leads.total() for bar in bars))
    return {
        "top": top,
        "axis": [_number(top), _number(top // 2), _number(0)],
        "note": _BAR_IN_WORDS[window.code],
        "statuses": [status.label for status in reversed(_STACK)],
        "bars": [_bar(bar, window, is_first=not place) for place, bar in enumerate(bars)],
    }


def _scale(highest: int) -> int:
    """Return where the axis ends: a round number, no less than the highest bar, and even for the line in the middle."""
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
        "total_shown": _number(total),
        "parts": [(status.lower(), bar.leads[status]) for status in _STACK if bar.leads[status]],
        "numbers": [_number(bar.leads[status]) for status in reversed(_STACK)],
    }


def _bar_label(start: datetime, window: Window, *, is_first: bool) -> tuple[str, str]:
    """Return what is below a bar, and in a second line, where it begins, what is above that: the day or the month."""
    if window.hours == 24:
        return date_format(start, "j"), date_format(start, "M") if is_first or start.day == 1 else ""
    hour = time_format(start, "H:i" if window.hours == 1 else "H")
    return hour, date_format(start, "D j") if is_first or start.hour == 0 else ""


def _bar_title(bar: Bar, window: Window) -> str:
    start, end = timezone.localtime(bar.start), timezone.localtime(bar.end)
    day = f"{date_format(start, 'D')} {date_format(start, 'SHORT_DATE_FORMAT')}"
    return day if window.hours == 24 else f"{day} {time_format(start, 'H:i')}–{time_format(end, 'H:i')}"


# --- before the first lead -------------------------------------------------------------------------------------------


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
