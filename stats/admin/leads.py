"""Leads: the list in which any of them is found, and what leads on from it."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from delivery.models import DeliveryAttempt
from leads import search
from leads.models import InboundLead, LeadStatus
from stats.admin import delivery_control, lead_page
from stats.admin.bulk_action_form import ACTIONS, bulk_action_urls, may_act
from stats.admin.export import urls as export_urls
from stats.admin.filters import (
    LastAnswerFilter,
    QuestionFilter,
    ReasonFilter,
    ReceivedFilter,
    SituationFilter,
    SourceFilter,
    StatusFilter,
)
from stats.admin.formatting import NOTHING, short_id, stacked, status_badge, time_of, visible
from stats.admin.personal_data import urls as reveal_urls
from stats.admin.records import RecordAdmin, RecordChangeList, column
from stats.admin.sidebar import urls as count_urls
from stats.masking import mask_email, mask_phone, mask_text
from stats.permissions import sees_personal_data
from stats.text.stored_texts import translate_stored_text

#: The large columns, which no list shows.
PAYLOADS = ("raw_payload", "source_headers", "normalized_payload", "customer_payload")


class LeadChangeList(RecordChangeList):
    """The list of leads, without the payloads of each, and with the number of their attempts."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet:
        return super().get_queryset(request, exclude_parameters).defer(*PAYLOADS)

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's leads, masked for those who may not see personal data."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        _count_attempts(self.result_list)
        if not sees_personal_data(request.user):
            for lead in self.result_list:
                _mask(lead)


def _count_attempts(leads: list[Any]) -> None:
    """Tell each lead the number of its attempts: the list's own query would count those of earlier pages' leads too."""
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

    list_display: tuple[str, ...] = ("lead", "received", "standing", "answer", "next_step", "contact", "person")
    list_filter: ClassVar[tuple[type[QuestionFilter], ...]] = (
        SituationFilter,
        StatusFilter,
        ReasonFilter,
        SourceFilter,
        LastAnswerFilter,
        ReceivedFilter,
    )
    actions = ACTIONS
    list_before_template = "stats/admin/list_delivery_banner.html"
    list_per_page = 25
    ordering = ("-received_at", "-pk")
    sortable_by = ("received",)
    search_help_text = _("Lead id, correlation id, e-mail, phone in any spelling, zip code, or words of the name")

    received = column("received_at", _("received"), time_of)

    @admin.display(description=_("lead"))
    def lead(self, lead: InboundLead) -> str:
        return stacked(f"#{lead.pk}", short_id(lead.correlation_id))

    @admin.display(description=_("status"))
    def standing(self, lead: InboundLead) -> str:
        return stacked(status_badge(lead.status), visible(lead.rejection_reason or ""))

    @admin.display(description=_("last answer"))
    def answer(self, lead: Any) -> str:
        """Return it with the number of attempts that it took."""
        made = lead.made
        attempts = ngettext("{n} attempt", "{n} attempts", made).format(n=made) if made else None
        return stacked(visible(translate_stored_text(lead.last_answer or NOTHING)), attempts)

    @admin.display(description=_("delivered, next attempt"))
    def next_step(self, lead: InboundLead) -> str:
        """Return when the lead was delivered, or when it is tried next."""
        if lead.status == LeadStatus.DELIVERED and lead.delivered_at:
            return stacked(time_of(lead.delivered_at), gettext("delivered"))
        if lead.next_attempt_at:
            return stacked(time_of(lead.next_attempt_at), gettext("next attempt"))
        return NOTHING

    @admin.display(description=_("phone, e-mail"))
    def contact(self, lead: InboundLead) -> str:
        return _two_lines(lead.search_phone, lead.search_email)

    @admin.display(description=_("name, zip code"))
    def person(self, lead: InboundLead) -> str:
        """Return whom it is about, or that they were erased."""
        if lead.erased_at:
            return stacked(gettext("erased"), time_of(lead.erased_at))
        return _two_lines((lead.search_name or "").title(), lead.search_zipcode)

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of leads, with those of ordering, exporting and counting them and of uncovering one."""
        ours = (bulk_action_urls, reveal_urls, export_urls, count_urls, delivery_control.urls)
        return [*(url for urls in ours for url in urls(self)), *super().get_urls()]

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user is offered the actions."""
        return may_act(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LeadChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, or at once the only lead that was searched for: somebody waits on the line."""
        may_export = request.user.has_perm("leads.export_lead")
        context = {"may_export": may_export, "way_out": delivery_control.banner(request, now=timezone.now())}
        response = super().changelist_view(request, context | (extra_context or {}))
        found = _only_one_found(request, response)
        return response if found is None else redirect("admin:leads_inboundlead_change", found.pk)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the leads that the text names."""
        return queryset.filter(search.matching(text))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show all about one lead."""
        return lead_page.show(self, request, object_id)


def _only_one_found(request: HttpRequest, response: HttpResponse) -> InboundLead | None:
    changelist = getattr(response, "context_data", {}).get("cl")
    if request.method != "GET" or changelist is None or not changelist.query.strip():
        return None
    return changelist.result_list[0] if changelist.result_count == 1 else None


def _two_lines(first: str | None, second: str | None) -> str:
    """Return two texts of senders below each other, each with its direction kept to itself."""
    lines = [visible(text) for text in (first, second) if text]
    return format_html_join("", '<div class="gateway-line"><bdi>{}</bdi></div>', ((line,) for line in lines)) or NOTHING
