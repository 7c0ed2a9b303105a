"""The list of leads, with its search, and the URLs of all pages about leads."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from delivery.models import DeliveryAttempt
from leads import search
from leads.models import InboundLead, LeadStatus
from stats.admin import delivery_control, lead_page, personal_data, sidebar
from stats.admin.bulk_action_form import ACTIONS, bulk_action_view, may_act
from stats.admin.export import export
from stats.admin.filters import LEAD_FILTERS
from stats.admin.formatting import NOTHING, escape_invisible, short_id, short_time, stacked, status_badge
from stats.admin.records import RecordAdmin, RecordChangeList, column
from stats.masking import mask_email, mask_phone, mask_text
from stats.permissions import sees_personal_data
from stats.text.reasons import response_text

#: Large columns that the list does not show.
PAYLOADS = ("raw_payload", "source_headers", "normalized_payload", "customer_payload")


class LeadChangeList(RecordChangeList):
    """The list of leads without payloads, with the number of attempts of each lead."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet:
        return super().get_queryset(request, exclude_parameters).defer(*PAYLOADS)

    def get_results(self, request: HttpRequest) -> None:
        """Read the leads of the page, masked for users who may not see personal data."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        _count_attempts(self.result_list)
        if not sees_personal_data(request.user):
            for lead in self.result_list:
                _mask(lead)


def _count_attempts(leads: list[Any]) -> None:
    """Set the number of attempts on each lead. The query of the list would also count those of earlier pages."""
    attempts = DeliveryAttempt.objects.filter(lead__in=[lead.pk for lead in leads])
    made = dict(attempts.values_list("lead").annotate(Count("pk")))
    for lead in leads:
        lead.made = made.get(lead.pk, 0)


def _mask(lead: InboundLead) -> None:
    lead.search_email = mask_email(lead.search_email or "") or None
    lead.search_phone = mask_phone(lead.search_phone or "") or None
    lead.search_name = mask_text(lead.search_name or "") or None


@admin.register(InboundLead)
class LeadAdmin(RecordAdmin):
    """Leads, the latest first."""

    list_display: tuple[str, ...] = (
        "lead",
        "received",
        "status_and_reason",
        "response",
        "next_step",
        "contact",
        "person",
    )
    list_filter = LEAD_FILTERS
    actions = ACTIONS
    list_before_template = "stats/admin/list_delivery_banner.html"
    list_per_page = 25
    ordering = ("-received_at", "-pk")
    sortable_by = ("received",)
    search_help_text = _("Lead ID, correlation ID, e-mail, phone number, zip code or name")

    received = column("received_at", _("received"), short_time)

    @admin.display(description=_("lead"))
    def lead(self, lead: InboundLead) -> str:
        return stacked(f"#{lead.pk}", short_id(lead.correlation_id))

    @admin.display(description=_("status"))
    def status_and_reason(self, lead: InboundLead) -> str:
        return stacked(status_badge(lead.status), escape_invisible(lead.rejection_reason or ""))

    @admin.display(description=_("last response"))
    def response(self, lead: Any) -> str:
        """Return the last response and the number of attempts."""
        made = lead.made
        attempts = ngettext("{number} attempt", "{number} attempts", made).format(number=made) if made else None
        return stacked(escape_invisible(response_text(lead.last_answer) or NOTHING), attempts)

    @admin.display(description=_("delivered / next attempt"))
    def next_step(self, lead: InboundLead) -> str:
        """Return when the lead was delivered, or when the next attempt is due."""
        if lead.status == LeadStatus.DELIVERED and lead.delivered_at:
            return stacked(short_time(lead.delivered_at), gettext("delivered"))
        if lead.next_attempt_at:
            return stacked(short_time(lead.next_attempt_at), gettext("next attempt"))
        return NOTHING

    @admin.display(description=_("phone / e-mail"))
    def contact(self, lead: InboundLead) -> str:
        return _two_lines(lead.search_phone, lead.search_email)

    @admin.display(description=_("name / zip code"))
    def person(self, lead: InboundLead) -> str:
        """Return the name and the zip code, or that they were erased."""
        if lead.erased_at:
            return stacked(gettext("erased"), short_time(lead.erased_at))
        return _two_lines((lead.search_name or "").title(), lead.search_zipcode)

    def get_urls(self) -> list[URLPattern]:
        """Return the URLs of leads. Those of other pages come first, because those of leads match any path."""

        def view(function: Callable[..., HttpResponseBase], *, post_only: bool = False) -> Any:
            bound = partial(function, self)
            return self.admin_site.admin_view(require_POST(bound) if post_only else bound)

        return [
            path("bulk-action/<str:name>/", view(bulk_action_view), name="leads_bulk_action"),
            path("delivery/", view(delivery_control.view), name="leads_delivery"),
            path("counts/", view(sidebar.counts), name="leads_counts"),
            path("export/", view(export, post_only=True), name="leads_export"),
            path("<int:lead_id>/reveal/", view(personal_data.reveal, post_only=True), name="leads_reveal"),
            *super().get_urls(),
        ]

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run the actions of the list."""
        return may_act(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LeadChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, or redirect to the lead when a search finds exactly one."""
        may_export = request.user.has_perm("leads.export_lead")
        context = {"may_export": may_export, "delivery_banner": delivery_control.banner(request, now=timezone.now())}
        response = super().changelist_view(request, context | (extra_context or {}))
        found = _single_result(request, response)
        return response if found is None else redirect("admin:leads_inboundlead_change", found.pk)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the leads that match the text."""
        return queryset.filter(search.matching(text))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page of a lead."""
        return lead_page.show(self, request, object_id)


def _single_result(request: HttpRequest, response: HttpResponse) -> InboundLead | None:
    changelist = getattr(response, "context_data", {}).get("cl")
    if request.method != "GET" or changelist is None or not changelist.query.strip():
        return None
    return changelist.result_list[0] if changelist.result_count == 1 else None


def _two_lines(first: str | None, second: str | None) -> str:
    """Return two untrusted texts in two lines with isolated directions."""
    lines = [escape_invisible(text) for text in (first, second) if text]
    return format_html_join("", '<div class="gateway-line"><bdi>{}</bdi></div>', ((line,) for line in lines)) or NOTHING
