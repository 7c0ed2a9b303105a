"""The audit browser: leads and their trail, to look at and to find, never to change."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, Model, Q, QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from leads import presentation, search
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.rules import RejectionReason

admin.site.site_header = admin.site.site_title = "Lead Gateway"
admin.site.index_title = "Overview"
admin.site.site_url = None  # nothing for people at /
admin.site.enable_nav_sidebar = False  # the lists need the width more

#: The large columns, which no list shows.
PAYLOADS = ("raw_payload", "source_headers", "normalized_payload", "customer_payload")


# --- what all pages of the audit browser share -----------------------------------------------------------------------


class ReadOnly:
    """Allows nobody to add, change or delete, superusers included."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RecordInline(ReadOnly, admin.TabularInline):
    """A table of such records on the page of their lead."""

    template = "leads/admin/table.html"
    extra = 0


class RecordAdmin(ReadOnly, admin.ModelAdmin):
    """Pages of a table that only the gateway itself writes."""

    change_form_template = "leads/admin/record.html"
    empty_value_display = presentation.NOTHING
    list_per_page = 50
    search_fields = ("pk",)  # says that there is a search box; `find` does the search
    search_help_text = "Lead id"
    show_full_result_count = False

    class Media:
        css = {"all": ["leads/admin.css"]}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the filters' own parameters alone: Django would let a URL filter by any column, with any value."""
        return lookup in {getattr(each, "parameter_name", None) for each in self.get_list_filter(request)}

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Return what was searched for; all there is for a blank."""
        return (self.find(queryset, search_term) if search_term.strip() else queryset), False

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the records of the lead whose id was typed; none when it is no id."""
        number = search.lead_id(text)
        return queryset.none() if number is None else queryset.filter(lead=number)


class QuestionFilter(admin.SimpleListFilter):
    """A filter by conditions with a name each; what is none of them filters nothing."""

    #: Parameter -> what the filter's choice is called, and the condition it stands for.
    answers: Mapping[str, tuple[str, Q | Exists | Callable[[], Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, label) for value, (label, _) in self.answers.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        _, condition = self.answers.get(self.value() or "", ("", Q()))
        return queryset.filter(condition() if callable(condition) else condition)


def column(field: str, label: str, show: Callable[[Any], str] = presentation.plain) -> Callable[[Any, Any], str]:
    """Return an admin column, or field of a page, that shows an attribute of the record under a label."""

    @admin.display(description=label, ordering=field)
    def shown(_admin: Any, record: Any) -> str:
        return show(getattr(record, field))

    return shown


def lead_link(lead_id: int) -> str:
    """Return a link to a lead's page."""
    return format_html('<a href="{}">Lead {}</a>', reverse("admin:leads_inboundlead_change", args=[lead_id]), lead_id)


# --- the trail -------------------------------------------------------------------------------------------------------


class TrailFormSet(BaseInlineFormSet):
    """A trail in order; of a very long one, as an endlessly repeating sender makes it, both ends."""

    end = 100

    def get_queryset(self) -> Any:
        if not hasattr(self, "_queryset"):
            self._queryset = self._both_ends(super().get_queryset())
        return self._queryset

    def _both_ends(self, events: QuerySet[LeadEvent]) -> list[LeadEvent]:
        first = list(events[: 2 * self.end])
        if len(first) < 2 * self.end:
            return first
        last = events.filter(pk__gt=first[self.end - 1].pk).order_by("-pk")[: self.end]
        return [*first[: self.end], *reversed(last)]


class EventColumns:
    """The columns of an event."""

    happened_at = column("at", "at (UTC)", presentation.utc)
    correlation = column("correlation_id", "correlation id", presentation.short_id)

    @admin.display(description="what happened")
    def what(self, event: LeadEvent) -> str:
        return presentation.what_happened(event)

    @admin.display(description="status")
    def step(self, event: LeadEvent) -> str:
        return presentation.status_step(event)

    @admin.display(description="detail")
    def in_words(self, event: LeadEvent) -> str:
        return presentation.detail_in_words(event)


class EventInline(EventColumns, RecordInline):
    """The trail on its lead's page."""

    model = LeadEvent
    formset = TrailFormSet
    fields = readonly_fields = ("happened_at", "actor", "what", "step", "in_words", "correlation")
    ordering = ("pk",)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Return the form set, with the heading that goes with its length."""
        formset = super().get_formset(request, obj, **kwargs)
        left_out = obj.events.count() - 2 * TrailFormSet.end
        note = f" ({left_out:,} events are left out here; a search in Events for {obj.pk} lists them all)"
        self.verbose_name_plural = f"Trail{note if left_out > 0 else ''}"
        return formset


class EventFilter(QuestionFilter):
    title = "what happened"
    parameter_name = "kind"
    answers = {kind.value: (kind.label, Q(kind=kind)) for kind in EventKind}


class ActorFilter(QuestionFilter):
    """The gateway's parts by name, and people: their names are too many to list."""

    title = "actor"
    parameter_name = "actor"
    parts = ("webhook", "worker", "sweep")
    answers = {part: (part, Q(actor=part)) for part in parts} | {"person": ("a person", ~Q(actor__in=parts))}


@admin.register(LeadEvent)
class EventAdmin(EventColumns, RecordAdmin):
    """The events of all leads, the latest first."""

    list_display = ("happened_at", "lead_of", "what", "step", "in_words", "actor")
    list_filter = (EventFilter, ActorFilter)
    fields = readonly_fields = (
        *("happened_at", "lead_of", "what", "step", "in_words", "actor", "correlation_id"),
        "detail_as_stored",
    )
    ordering = ("-pk",)
    sortable_by = ()
    detail_as_stored = column("detail", "detail as stored", presentation.json_block)

    @admin.display(description="lead")
    def lead_of(self, event: LeadEvent) -> str:
        return lead_link(event.lead_id)


# --- leads -----------------------------------------------------------------------------------------------------------


class StatusFilter(QuestionFilter):
    title = "status"
    parameter_name = "status"
    answers = {status.value: (status.label, Q(status=status)) for status in LeadStatus}


class SituationFilter(QuestionFilter):
    """What support and operators look for, which the status alone does not say."""

    title = "situation"
    parameter_name = "situation"
    answers = {
        "waiting": ("Waiting for retry", Q(status=LeadStatus.FAILED, next_attempt_at__isnull=False)),
        "attention": (
            "Needs attention",
            Q(status=LeadStatus.PERMANENTLY_FAILED) | Q(status=LeadStatus.FAILED, next_attempt_at=None),
        ),
    }


class ReasonFilter(QuestionFilter):
    title = "rejection reason"
    parameter_name = "reason"
    answers = {reason.value: (reason.value, Q(rejection_reason=reason)) for reason in RejectionReason}


def _midnight(days_ago: int) -> datetime:
    return timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


class ReceivedFilter(QuestionFilter):
    title = "received (days in UTC)"
    parameter_name = "received"
    answers = {
        "today": ("Today", lambda: Q(received_at__gte=_midnight(0))),
        "yesterday": ("Yesterday", lambda: Q(received_at__gte=_midnight(1), received_at__lt=_midnight(0))),
        "week": ("Last 7 days", lambda: Q(received_at__gte=_midnight(6))),
        "month": ("Last 30 days", lambda: Q(received_at__gte=_midnight(29))),
    }


class LeadChangeList(ChangeList):
    """The list of leads, without the payloads of each."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet:
        return super().get_queryset(request, exclude_parameters).defer(*PAYLOADS)


@admin.register(InboundLead)
class LeadAdmin(RecordAdmin):
    """Leads, the latest first, and all about each; `delivery` adds the attempts."""

    list_display: tuple[str, ...] = (
        *("id", "received", "status_and_reason", "next_attempt"),
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
    search_help_text = "Lead id, correlation id, e-mail, phone, zip code or full name, as a whole"
    inlines: ClassVar[tuple[type[RecordInline], ...]] = (EventInline,)
    fieldsets = (
        (None, {"fields": ("status_badge", "reason", "received", "next_attempt")}),
        ("Identity", {"fields": ("id", "correlation_id", "idempotency_key", "digest", "mapping")}),
        ("Schedule", {"fields": ("updated", "rung", "claimed", "claim_token", "forgiven")}),
        ("Payloads", {"fields": ("raw", "normalized", "for_customer")}),
        ("Source", {"fields": ("headers",)}),
    )

    received = column("received_at", "received (UTC)", presentation.utc)
    next_attempt = column("next_attempt_at", "next attempt (UTC)", presentation.utc)
    updated = column("updated_at", "last change (UTC)", presentation.utc)
    rung = column("rung_at", "last doorbell (UTC)", presentation.utc)
    claimed = column("claimed_until", "in work until (UTC)", presentation.utc)
    forgiven = column("attempts_forgiven", "attempts before the last redelivery")
    digest = column("payload_hash", "payload, SHA-256")
    mapping = column("mapping_sha256", "mapping file, SHA-256")
    status_badge = column("status", "status", presentation.status_badge)
    reason = column("rejection_reason", "rejection reason")
    phone = column("search_phone", "phone")
    email = column("search_email", "e-mail")
    zipcode = column("search_zipcode", "zip")
    correlation = column("correlation_id", "correlation id", presentation.short_id)
    raw = column("raw_payload", "as it was posted", presentation.json_block)
    normalized = column("normalized_payload", "normalized", presentation.json_block)
    for_customer = column("customer_payload", "for the customer", presentation.json_block)
    headers = column("source_headers", "headers", presentation.json_block)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Return every field of the page."""
        return [str(name) for _, options in self.get_fieldsets(request, obj) for name in options["fields"]]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LeadChangeList

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the leads that the text names."""
        return queryset.filter(search.matching(text))

    @admin.display(description="status, reason")
    def status_and_reason(self, lead: InboundLead) -> str:
        """Return both in one cell: a list of leads is wide."""
        return presentation.stacked(presentation.status_badge(lead.status), lead.rejection_reason)
