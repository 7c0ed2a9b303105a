"""Orders: what operators had done to many leads, and how far it is."""

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
from django.utils.formats import number_format
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
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text.filters import told

#: How many refused leads the page of an order names.
REFUSED_SHOWN = 100

#: How often the page of an open order looks again.
REFRESH_S = 3

#: How far the clocks of those who cancel and those who carry out may be apart.
_CLOCKS = timedelta(minutes=1)


class BulkActionKindFilter(admin.SimpleListFilter):
    """What was done by one order; there is no list to choose from, only links to it."""

    title = gettext_lazy("order")
    parameter_name = "order"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        number = self.used_parameters.get(self.parameter_name)
        return [] if number is None else [(number, _("Order {id}").format(id=number))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        number = search.lead_id(self.value() or "")
        order = None if number is None else BulkAction.objects.filter(pk=number).first()
        return queryset.none() if order is None else queryset.filter(detail__bulk_action=order.pk, **_its_time(order))


def _its_time(order: BulkAction) -> dict[str, Any]:
    """Return when all of the order's events happened: times have an index, and numbers of orders none."""
    ended_at = order.finished_at or order.cancelled_at
    return {"at__gte": order.created_at} | ({"at__lte": ended_at + _CLOCKS} if ended_at else {})


# --- how far it is ---------------------------------------------------------------------------------------------------


def state(order: BulkAction) -> tuple[str, str]:
    """Return where the order stands, in a word and a tone."""
    if order.cancelled_at is not None:
        return _("Cancelled"), "unknown"
    if order.finished_at is not None:
        return (_("Finished, some skipped"), "failed") if order.skipped else (_("Finished"), "delivered")
    return (_("At work"), "ready") if order.waiting < order.total else (_("Waiting"), "received")


def progress(order: BulkAction) -> str:
    """Return a bar, with the same in numbers beside it."""
    over = order.total - order.waiting
    return format_html(
        '<progress class="order-progress small" max="{}" value="{}" aria-hidden="true"></progress> <span>{}</span>',
        str(order.total),
        str(over),
        _("{n} of {total}").format(n=_number(over), total=_number(order.total)),
    )


def _number(number: int) -> str:
    return number_format(number, force_grouping=True)


def _time_left(order: BulkAction) -> str:
    """Return how long the order takes at the pace that orders are kept to, those before it included."""
    before = BulkAction.objects.filter(pk__lt=order.pk, finished_at=None, cancelled_at=None)
    ahead = before.aggregate(leads=Sum(F("total") - F("done") - F("skipped")))["leads"] or 0
    left = span(timedelta(seconds=(ahead + order.waiting) / settings.BULK_ACTION_RATE))
    text = _("About {span} left, at {rate} leads per second.").format(
        span=left, rate=_number(settings.BULK_ACTION_RATE)
    )
    return f"{text} {_ahead(ahead)}" if ahead else text


def _ahead(number: int) -> str:
    text = ngettext(
        "{n} lead of older orders goes first.",
        "{n} leads of older orders go first.",
        number,
    )
    return text.format(n=_number(number))


# --- pages -----------------------------------------------------------------------------------------------------------


@admin.register(BulkAction)
class BulkActionAdmin(RecordAdmin):
    """Orders, the latest first."""

    list_display = ("number", "placed", "what", "progress", "state", "by_whom", "why")
    ordering = ("-pk",)
    sortable_by = ()
    search_help_text = gettext_lazy("Lead id: the orders that were for this lead")

    by_whom = column("actor", gettext_lazy("actor"))

    class Media:
        css = {"all": ["stats/bulk_actions.css"]}

    @admin.display(description=gettext_lazy("no."))
    def number(self, order: BulkAction) -> int:
        return order.pk

    @admin.display(description=gettext_lazy("placed"))
    def placed(self, order: BulkAction) -> str:
        return formatting.time_of(order.created_at)

    @admin.display(description=gettext_lazy("what"))
    def what(self, order: BulkAction) -> str:
        return formatting.stacked(str(BulkActionKind(order.kind).label), formatting.visible(told(order.selection)))

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, order: BulkAction) -> str:
        return progress(order)

    @admin.display(description=gettext_lazy("state"))
    def state(self, order: BulkAction) -> str:
        return formatting.badge(*state(order))

    @admin.display(description=gettext_lazy("reason"))
    def why(self, order: BulkAction) -> str:
        return format_html('<span dir="auto" class="order-reason">{}</span>', formatting.visible(order.reason))

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the orders that were for the lead whose id was typed; none when it is no id."""
        number = search.lead_id(text)
        return queryset.none() if number is None else queryset.filter(items__lead=number)

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of orders, with that of cancelling one."""
        cancel = self.admin_site.admin_view(require_POST(self.cancel))
        return [path("<int:order_id>/cancel/", cancel, name="delivery_bulkaction_cancel"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show how far an order is."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        order = self.get_object(request, object_id)
        if order is None:
            raise Http404
        context = {**self.admin_site.each_context(request), "opts": self.opts, **_page(request, order)}
        return TemplateResponse(request, "stats/admin/bulk_action.html", context)

    def cancel(self, request: HttpRequest, order_id: int) -> HttpResponse:
        """Leave the rest of an order's leads as they are."""
        if not bulk_action_form.may_act(request):
            raise PermissionDenied
        if creation.cancel(order_id, actor=request.user.get_username(), now=timezone.now()):
            messages.success(request, _("The order is cancelled. What was done before stays done."))
        else:
            messages.warning(request, _("There was nothing left to cancel."))
        return redirect("admin:delivery_bulkaction_change", order_id)


def _page(request: HttpRequest, order: BulkAction) -> dict[str, Any]:
    return {
        "title": _("Order {id}").format(id=order.pk),
        "order": order,
        "kind": BulkActionKind(order.kind).label,
        "state": formatting.badge(*state(order)),
        "facts": _facts(order),
        "over": order.total - order.waiting,
        "numbers": _numbers(order),
        "time_left": _time_left(order) if order.is_open else "",
        "refresh": REFRESH_S if order.is_open else "",
        "skipped": _refused(order),
        "refused_left_out": _left_out(order.skipped - REFUSED_SHOWN),
        "cancel": _cancel(order) if order.is_open and bulk_action_form.may_act(request) else "",
        "events_url": f"{reverse('admin:leads_leadevent_changelist')}?order={order.pk}",
    }


def _facts(order: BulkAction) -> list[tuple[str, str]]:
    facts = [
        (_("Reason"), formatting.visible(order.reason)),
        (_("Leads"), formatting.visible(told(order.selection))),
        (_("Placed"), formatting.moment(order.created_at)),
        (_("By"), order.actor),
    ]
    if order.include_delivered:
        facts.append((_("Delivered leads"), _("sent again as well")))
    if order.finished_at:
        facts.append((_("Finished"), formatting.moment(order.finished_at)))
    if order.cancelled_at:
        facts += [
            (_("Cancelled"), formatting.moment(order.cancelled_at)),
            (_("Cancelled by"), order.cancelled_by or ""),
        ]
    return facts


def _numbers(order: BulkAction) -> list[tuple[str, str]]:
    """Return what has become of the leads, in numbers."""
    numbers = [(_("done"), order.done), (_("skipped"), order.skipped)]
    if order.is_open:
        numbers.append((_("waiting"), order.waiting))
    elif order.cancelled_at:
        numbers.append((_("left as they were"), order.waiting))
    return [(label, _number(number)) for label, number in numbers]


def _refused(order: BulkAction) -> list[tuple[str, str]]:
    """Return the first leads that the order did not fit, each with the reason."""
    if not order.skipped:
        return []
    items = order.items.filter(outcome=BulkActionItem.Outcome.SKIPPED).order_by("pk")[:REFUSED_SHOWN]
    return [(lead_link(item.lead_id), SkipReason(str(item.skip_reason)).describe(item.lead_id)) for item in items]


def _left_out(number: int) -> str:
    if number <= 0:
        return ""
    return ngettext("… and {n} more", "… and {n} more", number).format(n=_number(number))


def _cancel(order: BulkAction) -> str:
    text = ngettext(
        "Cancel: leave {n} waiting lead as it is", "Cancel: leave {n} waiting leads as they are", order.waiting
    )
    return text.format(n=_number(order.waiting))
