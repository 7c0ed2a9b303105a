"""The sidebar: the pages there are, and the lists that staff open most, each with how many leads are in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import NEEDS_ATTENTION, InboundLead, LeadStatus
from stats.admin.filters import WAITING_FOR_RETRY, midnight

#: No list is counted further: at some point there are just many.
MOST = 999

#: Parameters of a list that say how it is shown, not what is in it.
_PRESENTATION = ("q", "p", "o", "e", "all")


@dataclass(frozen=True)
class Entry:
    """A link of the sidebar: what it is called, where it leads, and who may follow it."""

    title: Any
    icon: str
    page: str
    permission: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    #: The leads, attempts or events that are counted, in an order of which there is an index.
    rows: Callable[[], QuerySet] | None = None
    is_alarming: bool = False

    @property
    def key(self) -> str:
        """Return what the entry's count is called."""
        return "-".join(self.query.values())

    @property
    def path(self) -> str:
        return reverse(f"admin:{self.page}")

    @property
    def link(self) -> str:
        query = QueryDict(mutable=True)
        query.update(self.query)
        return f"{self.path}?{query.urlencode()}" if self.query else self.path


_LEADS = "leads_inboundlead_changelist"
_VIEW_LEADS = "leads.view_inboundlead"


def _list(title: Any, icon: str, rows: Callable[[], QuerySet], *, is_alarming: bool = False, **query: str) -> Entry:
    return Entry(title, icon, _LEADS, _VIEW_LEADS, query, rows, is_alarming)


def _latest(*conditions: Q, **more: Any) -> QuerySet:
    return InboundLead.objects.filter(*conditions, **more).order_by("-received_at").values("pk")


def _today(**condition: Any) -> QuerySet:
    return _latest(received_at__gte=midnight(0), **condition)


#: Title of a group -> its entries.
GROUPS: tuple[tuple[Any, tuple[Entry, ...]], ...] = (
    (None, (Entry(_("Dashboard"), "monitoring", "index"),)),
    (
        _("Leads"),
        (
            Entry(_("All leads"), "group", _LEADS, _VIEW_LEADS),
            _list(
                _("Needs attention"),
                "error",
                partial(_latest, NEEDS_ATTENTION),
                is_alarming=True,
                situation="attention",
            ),
            _list(
                _("Waiting for retry"),
                "schedule",
                lambda: InboundLead.objects.filter(WAITING_FOR_RETRY).order_by("next_attempt_at").values("pk"),
                situation="waiting",
            ),
            _list(
                _("Outcome unknown"),
                "help",
                lambda: DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN).values("lead").order_by("lead").distinct(),
                situation="unknown",
            ),
            _list(
                _("Received more than once"),
                "content_copy",
                partial(_latest, received_again_at__isnull=False),
                situation="duplicates",
            ),
        ),
    ),
    (
        _("Received today"),
        (
            _list(_("All of today"), "today", _today, received="today"),
            _list(
                _("Delivered"),
                "check_circle",
                partial(_today, status=LeadStatus.DELIVERED),
                status=LeadStatus.DELIVERED.value,
                received="today",
            ),
            _list(
                _("Rejected"),
                "block",
                partial(_today, status=LeadStatus.REJECTED),
                status=LeadStatus.REJECTED.value,
                received="today",
            ),
        ),
    ),
    (
        _("Work and trail"),
        (
            Entry(_("Orders"), "playlist_add_check", "delivery_bulkaction_changelist", "delivery.view_bulkaction"),
            Entry(_("Way out"), "output", "leads_way_out", _VIEW_LEADS),
            Entry(_("Attempts"), "send", "delivery_deliveryattempt_changelist", "delivery.view_deliveryattempt"),
            Entry(_("Events"), "history", "leads_leadevent_changelist", "leads.view_leadevent"),
        ),
    ),
    (
        _("Monitoring"),
        (
            Entry(_("Incidents"), "warning", "stats_incident_changelist", "stats.view_incident"),
            Entry(
                _("Hourly statistics"),
                "bar_chart",
                "stats_hourlystatistics_changelist",
                "stats.view_hourlystatistics",
            ),
        ),
    ),
    (
        _("Staff"),
        (
            Entry(_("Users"), "person", "auth_user_changelist", "auth.view_user"),
            Entry(_("Groups"), "shield_person", "auth_group_changelist", "auth.view_group"),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups of links, as far as the user may follow them."""
    groups = [(title, [entry for entry in entries if _may_follow(request, entry)]) for title, entries in GROUPS]
    entries = [entry for _title, entries in groups for entry in entries]
    active, counts = _active(request, entries), {} if _is_refresh(request) else _counts(entries)
    return [
        {"title": title, "items": [_item(entry, entry is active, counts) for entry in entries]}
        for title, entries in groups
    ]


def _may_follow(request: HttpRequest, entry: Entry) -> bool:
    return entry.permission is None or request.user.has_perm(entry.permission)


def _is_refresh(request: HttpRequest) -> bool:
    """Tell whether gateway.js fetches a part of the page anew, which the sidebar is not."""
    return request.headers.get("X-Requested-With") == "refresh"


def _item(entry: Entry, is_active: bool, counts: dict[str, str]) -> dict[str, Any]:
    title = format_html(
        '{} <span class="gateway-count{}" data-count="{}" data-counts="{}">{}</span>',
        entry.title,
        " gateway-failed" if entry.is_alarming else "",
        entry.key,
        reverse("admin:leads_counts"),
        counts.get(entry.key, ""),
    )
    return {
        "title": title if entry.rows else entry.title,
        "icon": entry.icon,
        "link": entry.link,
        "active": is_active,
    }


# --- which one the page belongs to -----------------------------------------------------------------------------------


def _active(request: HttpRequest, entries: Iterable[Entry]) -> Entry | None:
    """Return the entry of the list that was asked for, or from which the page was opened; else of the page's kind."""
    asked = _asked(request)
    around = [entry for entry in entries if _is_below(request.path, entry)]
    same_page = [entry for entry in around if entry.path == max((each.path for each in around), key=len)]
    exactly = [entry for entry in same_page if entry.query == asked]
    return next(iter([*exactly, *(entry for entry in same_page if not entry.query)]), None)


def _is_below(path: str, entry: Entry) -> bool:
    return path == entry.path if entry.page == "index" else path.startswith(entry.path)


def _asked(request: HttpRequest) -> dict[str, str]:
    """Return the filters of the list; a lead's page carries those of the list it was opened from along."""
    parameters = QueryDict(request.GET["_changelist_filters"]) if "_changelist_filters" in request.GET else request.GET
    return {name: str(value) for name, value in parameters.items() if value and name not in _PRESENTATION}


# --- how many --------------------------------------------------------------------------------------------------------


def _counts(entries: Iterable[Entry]) -> dict[str, str]:
    """Return what is shown at each list: how many leads it has, or nothing when there is none."""
    counted = {entry.key: entry.rows() for entry in entries if entry.rows}
    numbers = _capped_counts(counted.values()) if counted else []
    return {key: _in_words(number) for key, number in zip(counted, numbers, strict=True)}


def _capped_counts(querysets: Iterable[QuerySet]) -> list[int]:
    """Count each one's rows, up to one more than MOST, in a single query."""
    parts: list[str] = []
    parameters: list[Any] = []
    for queryset in querysets:
        sql, more = queryset[: MOST + 1].query.sql_with_params()
        parts.append(f"(SELECT count(*) FROM ({sql}) AS capped)")  # noqa: S608 (Django's own SQL)
        parameters += more
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", parameters)
        return list(cursor.fetchone())


def _in_words(count: int) -> str:
    number = str(number_format(min(count, MOST), force_grouping=True))
    return f"{number}+" if count > MOST else number if count else ""


def counts(request: HttpRequest) -> HttpResponse:
    """Answer with the numbers at the lists, for a page that stays open.

    :raises PermissionDenied: the user may not look at leads.
    """
    if not request.user.has_perm(_VIEW_LEADS):
        raise PermissionDenied
    return JsonResponse(_counts(entry for _title, entries in GROUPS for entry in entries))


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of `counts`, for the URLs of the leads."""
    return [path("counts/", model_admin.admin_site.admin_view(counts), name="leads_counts")]
