"""Leads: the list in which any of them is found, and what leads on from it."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from delivery.models import DeliveryAttempt
from leads import search
from leads.models import InboundLead
from stats import presentation
from stats.admin import lead_page
from stats.admin.filters import QuestionFilter, ReasonFilter, ReceivedFilter, SituationFilter, StatusFilter
from stats.admin.records import RecordAdmin, column

#: The large columns, which no list shows.
PAYLOADS = ("raw_payload", "source_headers", "normalized_payload", "customer_payload")

#: NULL for a lead without attempts. A subquery, so that only the leads on the page are counted for.
ATTEMPTS_MADE = Subquery(
    DeliveryAttempt.objects.filter(lead=OuterRef("pk")).values("lead").annotate(made=Count("pk")).values("made")
)


class LeadChangeList(ChangeList):
    """The list of leads, without the payloads of each, and with the number of their attempts."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet:
        return super().get_queryset(request, exclude_parameters).defer(*PAYLOADS).annotate(made=ATTEMPTS_MADE)


@admin.register(InboundLead)
class LeadAdmin(RecordAdmin):
    """Leads, the latest first."""

    list_display: tuple[str, ...] = (
        *("id", "received", "status_and_reason", "attempts_made", "next_attempt"),
        *("phone", "email", "zipcode", "correlation"),
    )
    list_filter: ClassVar[tuple[type[QuestionFilter], ...]] = (
        SituationFilter,
        StatusFilter,
        ReasonFilter,
        ReceivedFilter,
    )
    ordering = ("-received_at", "-pk")
    sortable_by = ("id", "received")
    search_help_text = _("Lead id, correlation id, e-mail, phone, zip code or full name, as a whole")

    received = column("received_at", _("received"), presentation.time_of)
    next_attempt = column("next_attempt_at", _("next attempt"), presentation.time_of)
    phone = column("search_phone", _("phone"))
    email = column("search_email", _("e-mail"))
    zipcode = column("search_zipcode", _("zip"))
    correlation = column("correlation_id", _("correlation id"), presentation.short_id)

    @admin.display(description=_("status, reason"))
    def status_and_reason(self, lead: InboundLead) -> str:
        """Return both in one cell: a list of leads is wide."""
        return presentation.stacked(presentation.status_badge(lead.status), lead.rejection_reason)

    @admin.display(description=_("attempts"))
    def attempts_made(self, lead: Any) -> int:
        return lead.made or 0

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LeadChangeList

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the leads that the text names."""
        return queryset.filter(search.matching(text))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show all about one lead."""
        return lead_page.show(self, request, object_id)
