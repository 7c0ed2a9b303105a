"""The sidebar: links to all pages and to the most used lists, with the number of leads in each list."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import NEEDS_ATTENTION, InboundLead, LeadStatus
from stats.admin.filters import WAITING_FOR_RETRY, midnight
from stats.admin.formatting import number

#: Counting stops here, because counting a long list is slow.
MAX_COUNT = 999

#: Query parameters of a list that do not filter it.
_PRESENTATION = ("q", "p", "o", "e", "all")


@dataclass(frozen=True)
class Link:
    """A link of the sidebar, shown to users with `permission`."""

    title: Any
    icon: str
    page: str
    permission: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    #: The rows to count, in the order of an index; None shows no count.
    rows: Callable[[], QuerySet] | None = None
    is_warning: bool = False

    @property
    def key(self) -> str:
        """Return the name of the link's count."""
        return "-".join(self.query.values())

    @property
    def path(self) -> str:
        return reverse(f"admin:{self.page}")

    @property
    def url(self) -> str:
        query = QueryDict(mutable=True)
        query.update(self.query)
        return f"{self.path}?{query.urlencode()}" if self.query else self.path


_LEADS = "leads_inboundlead_changelist"
_VIEW_LEADS = "leads.view_inboundlead"


def _list(title: Any, icon: str, rows: Callable[[], QuerySet], *, warn: bool = False, **query: str) -> Link:
    return Link(title, icon, _LEADS, _VIEW_LEADS, query, rows, warn)


def _today_list(title: Any, icon: str, status: LeadStatus) -> Link:
    return _list(title, icon, lambda: _today(status=status), status=status.value, received="today")


def _latest(*conditions: Q, **more: Any) -> QuerySet:
    return InboundLead.objects.filter(*conditions, **more).order_by("-received_at").values("pk")


def _today(**condition: Any) -> QuerySet:
    return _latest(received_at__gte=midnight(0), **condition)


def _received_again() -> QuerySet:
    return _latest(received_again_at__isnull=False)


def _waiting_for_retry() -> QuerySet:
    return InboundLead.objects.filter(WAITING_FOR_RETRY).order_by("next_attempt_at").values("pk")


def _with_unknown_outcome() -> QuerySet:
    return DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN).values("lead").order_by("lead").distinct()


#: Groups of links with their titles.
GROUPS: tuple[tuple[Any, tuple[Link, ...]], ...] = (
    (None, (Link(_("Dashboard"), "monitoring", "index"),)),
    (
        _("Leads"),
        (
            Link(_("All leads"), "group", _LEADS, _VIEW_LEADS),
            _list(_("Needs attention"), "error", lambda: _latest(NEEDS_ATTENTION), situation="attention", warn=True),
            _list(_("Waiting for retry"), "schedule", _waiting_for_retry, situation="waiting"),
            _list(_("Outcome unknown"), "help", _with_unknown_outcome, situation="unknown"),
            _list(_("Received more than once"), "content_copy", _received_again, situation="duplicates"),
        ),
    ),
    (
        _("Received today"),
        (
            _list(_("All today"), "today", _today, received="today"),
            _today_list(_("Delivered"), "check_circle", LeadStatus.DELIVERED),
            _today_list(_("Rejected"), "block", LeadStatus.REJECTED),
        ),
    ),
    (
        _("Activity"),
        (
            Link(_("Bulk actions"), "playlist_add_check", "delivery_bulkaction_changelist", "delivery.view_bulkaction"),
            Link(_("Delivery"), "output", "leads_delivery", _VIEW_LEADS),
            Link(_("Attempts"), "send", "delivery_deliveryattempt_changelist", "delivery.view_deliveryattempt"),
            Link(_("Events"), "history", "leads_leadevent_changelist", "leads.view_leadevent"),
        ),
    ),
    (
        _("Monitoring"),
        (
            Link(_("Incidents"), "warning", "stats_incident_changelist", "stats.view_incident"),
            Link(
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
            Link(_("Users"), "person", "auth_user_changelist", "auth.view_user"),
            Link(_("Groups"), "shield_person", "auth_group_changelist", "auth.view_group"),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups with the links that the user may open."""
    has_perm = request.user.has_perm
    groups = [
        (title, [link for link in links if link.permission is None or has_perm(link.permission)])
        for title, links in GROUPS
    ]
    links = [link for _title, links in groups for link in links]
    active, counts = _active(request, links), {} if _is_refresh(request) else _counts(links)
    return [
        {"title": title, "items": [_item(link, link is active, counts) for link in links]} for title, links in groups
    ]


def _is_refresh(request: HttpRequest) -> bool:
    """Return whether gateway.js refreshes a part of the page, which never is the sidebar."""
    return request.headers.get("X-Requested-With") == "refresh"


def _item(link: Link, is_active: bool, counts: dict[str, str]) -> dict[str, Any]:
    title = format_html(
        '{} <span class="gateway-count{}" data-count="{}" data-counts="{}">{}</span>',
        link.title,
        " gateway-failed" if link.is_warning else "",
        link.key,
        reverse("admin:leads_counts"),
        counts.get(link.key, ""),
    )
    return {
        "title": title if link.rows else link.title,
        "icon": link.icon,
        "link": link.url,
        "active": is_active,
    }


# --- the link of the current page ------------------------------------------------------------------------------------


def _active(request: HttpRequest, links: Iterable[Link]) -> Link | None:
    """Return the link of the requested list, or of the list from which the page was opened, or of its kind of page."""
    filters = _filters(request)
    candidates = [link for link in links if _is_below(request.path, link)]
    same_page = [link for link in candidates if link.path == max((each.path for each in candidates), key=len)]
    exactly = [link for link in same_page if link.query == filters]
    return next(iter([*exactly, *(link for link in same_page if not link.query)]), None)


def _is_below(path: str, link: Link) -> bool:
    return path == link.path if link.page == "index" else path.startswith(link.path)


def _filters(request: HttpRequest) -> dict[str, str]:
    """Return the filters of the list. The URL of a lead's page contains those of the list it was opened from."""
    parameters = QueryDict(request.GET["_changelist_filters"]) if "_changelist_filters" in request.GET else request.GET
    return {name: str(value) for name, value in parameters.items() if value and name not in _PRESENTATION}


# --- counts ----------------------------------------------------------------------------------------------------------


def _counts(links: Iterable[Link]) -> dict[str, str]:
    """Return the count to show at each list; an empty text for an empty list."""
    counted = {link.key: link.rows() for link in links if link.rows}
    totals = _capped_counts(counted.values()) if counted else []
    return {key: _count_text(total) for key, total in zip(counted, totals, strict=True)}


def _capped_counts(querysets: Iterable[QuerySet]) -> list[int]:
    """Count the rows of each queryset, up to one more than MAX_COUNT, in a single query."""
    parts: list[str] = []
    parameters: list[Any] = []
    for queryset in querysets:
        sql, more = queryset[: MAX_COUNT + 1].query.sql_with_params()
        parts.append(f"(SELECT count(*) FROM ({sql}) AS capped)")  # noqa: S608 (Django's own SQL)
        parameters += more
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", parameters)
        return list(cursor.fetchone())


def _count_text(count: int) -> str:
    if not count:
        return ""
    return number(count) if count <= MAX_COUNT else f"{number(MAX_COUNT)}+"


def counts(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Return the counts as JSON, for a page that stays open.

    :raises PermissionDenied: the user may not view leads.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    return JsonResponse(_counts(link for _title, links in GROUPS for link in links))
