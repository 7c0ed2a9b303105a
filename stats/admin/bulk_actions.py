"""The list of bulk actions, and the page that shows the progress and the result of one."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from delivery.bulk_actions import creation
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leadgateway.time_format import span
from leads import search
from stats.admin import bulk_action_form, formatting
from stats.admin.formatting import number
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text.filters import selection_text

#: The maximum number of skipped leads that the page lists.
MAX_SKIPPED_SHOWN = 100

#: Seconds between two refreshes of the page of an open bulk action.
REFRESH_S = 3

#: The maximum difference between the clocks of two servers.
_CLOCK_DIFFERENCE = timedelta(minutes=1)


class BulkActionFilter(admin.SimpleListFilter):
    """The events of one bulk action. There is no list to choose from, only links from the bulk action's page."""

    title = gettext_lazy("bulk action")
    parameter_name = "bulk_action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        bulk_action_id = self.used_parameters.get(self.parameter_name)
        if bulk_action_id is None:
            return []
        return [(bulk_action_id, _("Bulk action {id}").format(id=bulk_action_id))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        bulk_action_id = search.lead_id(self.value() or "")
        bulk_action = BulkAction.objects.filter(pk=bulk_action_id).first() if bulk_action_id is not None else None
        if bulk_action is None:
            return queryset.none()
        return queryset.filter(detail__bulk_action=bulk_action.pk, **_time_range(bulk_action))


def _time_range(bulk_action: BulkAction) -> dict[str, Any]:
    """Return the lookups for the time of the bulk action. Times have an index; the id in the detail has none."""
    ended_at = bulk_action.finished_at or bulk_action.cancelled_at
    return {"at__gte": bulk_action.created_at} | ({"at__lte": ended_at + _CLOCK_DIFFERENCE} if ended_at else {})


# --- progress --------------------------------------------------------------------------------------------------------


def state(bulk_action: BulkAction) -> tuple[str, str]:
    """Return the state of a bulk action and its tone."""
    if bulk_action.cancelled_at is not None:
        return _("Cancelled"), "unknown"
    if bulk_action.finished_at is not None:
        return (_("Finished, some skipped"), "failed") if bulk_action.skipped else (_("Finished"), "delivered")
    return (_("Running"), "ready") if bulk_action.waiting < bulk_action.total else (_("Waiting"), "received")


def progress(bulk_action: BulkAction) -> str:
    """Return a progress bar with its numbers beside it."""
    processed = bulk_action.total - bulk_action.waiting
    return format_html(
        '<progress class="bulk-action-progress small" max="{}" value="{}" aria-hidden="true"></progress>'
        " <span>{}</span>",
        str(bulk_action.total),
        str(processed),
        _("{number} of {total}").format(number=number(processed), total=number(bulk_action.total)),
    )


def _time_left(bulk_action: BulkAction) -> str:
    """Return an estimate of the remaining time, including older bulk actions that are processed first."""
    older = BulkAction.objects.filter(pk__lt=bulk_action.pk, finished_at=None, cancelled_at=None)
    ahead = older.aggregate(leads=Sum(F("total") - F("done") - F("skipped")))["leads"] or 0
    left = span(timedelta(seconds=(ahead + bulk_action.waiting) / settings.BULK_ACTION_RATE))
    text = _("About {span} left at {rate} leads per second.").format(span=left, rate=number(settings.BULK_ACTION_RATE))
    if not ahead:
        return text
    first = ngettext(
        "{number} lead of older bulk actions is processed first.",
        "{number} leads of older bulk actions are processed first.",
        ahead,
    )
    return f"{text} {first.format(number=number(ahead))}"


# --- pages -----------------------------------------------------------------------------------------------------------


@admin.register(BulkAction)
class BulkActionAdmin(RecordAdmin):
    """Bulk actions, the latest first."""

    list_display = ("number", "created", "action", "progress", "state", "by_whom", "reason_given")
    ordering = ("-pk",)
    sortable_by = ()
    search_help_text = gettext_lazy("Lead ID: bulk actions that include this lead")

    number = column("pk", gettext_lazy("no."))
    created = column("created_at", gettext_lazy("created"), formatting.short_time)
    by_whom = column("actor", gettext_lazy("actor"))

    class Media:
        css = {"all": ["stats/bulk_actions.css"]}

    @admin.display(description=gettext_lazy("action"))
    def action(self, bulk_action: BulkAction) -> str:
        selection = formatting.escape_invisible(selection_text(bulk_action.selection))
        return formatting.stacked(str(BulkActionKind(bulk_action.kind).label), selection)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, bulk_action: BulkAction) -> str:
        return progress(bulk_action)

    @admin.display(description=gettext_lazy("state"))
    def state(self, bulk_action: BulkAction) -> str:
        return formatting.badge(*state(bulk_action))

    @admin.display(description=gettext_lazy("reason"))
    def reason_given(self, bulk_action: BulkAction) -> str:
        reason = formatting.escape_invisible(bulk_action.reason)
        return format_html('<span dir="auto" class="bulk-action-reason">{}</span>', reason)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the bulk actions that include the lead with the typed id; none when the text is no id."""
        lead_id = search.lead_id(text)
        return queryset.none() if lead_id is None else queryset.filter(items__lead=lead_id)

    def get_urls(self) -> list[URLPattern]:
        """Return the URLs of bulk actions, with the one that cancels one."""
        cancel = self.admin_site.admin_view(require_POST(self.cancel))
        return [path("<int:bulk_action_id>/cancel/", cancel, name="delivery_bulkaction_cancel"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the progress and the result of a bulk action."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        bulk_action = self.get_object(request, object_id)
        if bulk_action is None:
            raise Http404
        context = {**self.admin_site.each_context(request), "opts": self.opts, **_page(request, bulk_action)}
        return TemplateResponse(request, "stats/admin/bulk_action.html", context)

    def cancel(self, request: HttpRequest, bulk_action_id: int) -> HttpResponse:
        """Cancel the leads that are not processed yet."""
        if not bulk_action_form.may_act(request):
            raise PermissionDenied
        if creation.cancel(bulk_action_id, actor=request.user.get_username(), now=timezone.now()):
            messages.success(request, _("Bulk action cancelled. Leads that were already processed stay changed."))
        else:
            messages.warning(request, _("The bulk action was already finished or cancelled."))
        return redirect("admin:delivery_bulkaction_change", bulk_action_id)


def _page(request: HttpRequest, bulk_action: BulkAction) -> dict[str, Any]:
    return {
        "title": _("Bulk action {id}").format(id=bulk_action.pk),
        "bulk_action": bulk_action,
        "kind": BulkActionKind(bulk_action.kind).label,
        "state": formatting.badge(*state(bulk_action)),
        "facts": _facts(bulk_action),
        "processed": bulk_action.total - bulk_action.waiting,
        "numbers": _numbers(bulk_action),
        "time_left": _time_left(bulk_action) if bulk_action.is_open else "",
        "refresh": REFRESH_S if bulk_action.is_open else "",
        "skipped": _skipped(bulk_action),
        "more_skipped": _more(bulk_action.skipped - MAX_SKIPPED_SHOWN),
        "cancel": _cancel(bulk_action) if bulk_action.is_open and bulk_action_form.may_act(request) else "",
        "events_url": f"{reverse('admin:leads_leadevent_changelist')}?bulk_action={bulk_action.pk}",
    }


def _facts(bulk_action: BulkAction) -> list[tuple[str, str]]:
    facts = [
        (_("Reason"), formatting.escape_invisible(bulk_action.reason)),
        (_("Leads"), formatting.escape_invisible(selection_text(bulk_action.selection))),
        (_("Created"), formatting.full_time(bulk_action.created_at)),
        (_("Created by"), bulk_action.actor),
    ]
    if bulk_action.include_delivered:
        facts.append((_("Delivered leads"), _("sent again")))
    if bulk_action.finished_at:
        facts.append((_("Finished"), formatting.full_time(bulk_action.finished_at)))
    if bulk_action.cancelled_at:
        facts += [
            (_("Cancelled"), formatting.full_time(bulk_action.cancelled_at)),
            (_("Cancelled by"), bulk_action.cancelled_by or ""),
        ]
    return facts


def _numbers(bulk_action: BulkAction) -> list[tuple[str, str]]:
    """Return how many leads have each outcome."""
    counts = [(_("done"), bulk_action.done), (_("skipped"), bulk_action.skipped)]
    if bulk_action.is_open:
        counts.append((_("waiting"), bulk_action.waiting))
    elif bulk_action.cancelled_at:
        counts.append((_("not processed"), bulk_action.waiting))
    return [(label, number(count)) for label, count in counts]


def _skipped(bulk_action: BulkAction) -> list[tuple[str, str]]:
    """Return the first skipped leads, each with the reason."""
    if not bulk_action.skipped:
        return []
    items = bulk_action.items.filter(outcome=BulkActionItem.Outcome.SKIPPED).order_by("pk")[:MAX_SKIPPED_SHOWN]
    return [(lead_link(item.lead_id), SkipReason(str(item.skip_reason)).describe(item.lead_id)) for item in items]


def _more(count: int) -> str:
    return (
        ngettext("… and {number} more", "… and {number} more", count).format(number=number(count)) if count > 0 else ""
    )


def _cancel(bulk_action: BulkAction) -> str:
    text = ngettext("Cancel {number} waiting lead", "Cancel {number} waiting leads", bulk_action.waiting)
    return text.format(number=number(bulk_action.waiting))
