"""The attempts in the audit browser: a list of their own, and on the pages of the leads."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from delivery.configuration import retry_policy
from delivery.models import DeliveryAttempt
from delivery.standing import standing
from leads import presentation
from leads.admin import (
    LeadAdmin,
    QuestionFilter,
    ReasonFilter,
    ReceivedFilter,
    RecordAdmin,
    RecordInline,
    SituationFilter,
    StatusFilter,
    column,
    lead_link,
)
from leads.models import InboundLead

#: Nobody has written down how the attempt ended: not the gateway, and nobody with the seed's columns alone.
OUTCOME_UNKNOWN = Q(finished_at=None, response_status=None, error_message=None, success=False)


# --- attempts --------------------------------------------------------------------------------------------------------


class AttemptColumns:
    """The columns of an attempt."""

    number = column("attempt_no", "no.")
    requested = column("requested_at", "requested (UTC)", presentation.utc)
    http_status = column("response_status", "HTTP status")
    error = column("error_message", "error")

    @admin.display(description="outcome")
    def outcome(self, attempt: DeliveryAttempt) -> str:
        if not attempt.has_outcome:
            return presentation.badge("Outcome unknown", "unknown")
        return presentation.badge(*(("Success", "delivered") if attempt.success else ("Failed", "failed")))

    @admin.display(description="duration")
    def duration(self, attempt: DeliveryAttempt) -> str:
        return presentation.NOTHING if attempt.duration_ms is None else f"{attempt.duration_ms:,} ms"

    @admin.display(description="the customer's answer")
    def answer(self, attempt: DeliveryAttempt) -> str:
        body = attempt.response_body
        if not body:
            return presentation.NOTHING
        shown = presentation.block(presentation.visible(body))
        return format_html("<details><summary>{} characters</summary>{}</details>", f"{len(body):,}", shown)


class AttemptInline(AttemptColumns, RecordInline):
    """The attempts on their lead's page."""

    model = DeliveryAttempt
    verbose_name_plural = "Attempts"
    fields = readonly_fields = ("number", "requested", "duration", "http_status", "outcome", "error", "answer")
    ordering = ("attempt_no",)


class OutcomeFilter(QuestionFilter):
    title = "outcome"
    parameter_name = "outcome"
    answers = {
        "success": ("Success", Q(success=True)),
        "failed": ("Failed", Q(success=False) & ~OUTCOME_UNKNOWN),
        "unknown": ("Outcome unknown", OUTCOME_UNKNOWN),
    }


class AnswerFilter(QuestionFilter):
    title = "the customer's answer"
    parameter_name = "answer"
    answers = {
        **{f"{n}xx": (f"HTTP {n}xx", Q(response_status__range=(100 * n, 100 * n + 99))) for n in range(1, 6)},
        "none": ("No answer", Q(response_status=None)),
    }


@admin.register(DeliveryAttempt)
class AttemptAdmin(AttemptColumns, RecordAdmin):
    """The attempts of all leads, the latest first."""

    list_display = ("requested", "lead_of", "number", "http_status", "outcome", "duration", "error")
    list_filter = (OutcomeFilter, AnswerFilter)
    fields = readonly_fields = (
        *("lead_of", "number", "requested", "finished"),
        *("duration", "http_status", "outcome", "error", "answer"),
    )
    ordering = ("-requested_at", "-pk")
    sortable_by = ()
    finished = column("finished_at", "outcome written (UTC)", presentation.utc)

    @admin.display(description="lead")
    def lead_of(self, attempt: DeliveryAttempt) -> str:
        return lead_link(attempt.lead_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the attempts, each without its answer until somebody looks at it."""
        return super().get_queryset(request).defer("response_body")


# --- what leads get from here ----------------------------------------------------------------------------------------


class UnknownOutcomeFilter(QuestionFilter):
    """Leads that the customer may have got although nobody here knows."""

    title = "attempts"
    parameter_name = "attempts"
    answers = {
        "unknown": ("Outcome unknown", Exists(DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN, lead=OuterRef("pk")))),
    }


#: NULL for a lead without attempts. A subquery, so that only the leads on the page are counted for.
ATTEMPTS_MADE = Subquery(
    DeliveryAttempt.objects.filter(lead=OuterRef("pk")).values("lead").annotate(made=Count("pk")).values("made")
)

admin.site.unregister(InboundLead)


@admin.register(InboundLead)
class LeadWithAttemptsAdmin(LeadAdmin):
    """Leads, with what was tried to deliver them."""

    list_display = (
        *("id", "received", "status_and_reason", "attempts_made", "next_attempt"),
        *("phone", "email", "zipcode", "correlation"),
    )
    list_filter = (SituationFilter, UnknownOutcomeFilter, StatusFilter, ReasonFilter, ReceivedFilter)
    inlines = (AttemptInline, *LeadAdmin.inlines)
    fieldsets = ((None, {"fields": ("stands", *LeadAdmin.fieldsets[0][1]["fields"])}), *LeadAdmin.fieldsets[1:])

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the lead, and remember since when it cannot have been read."""
        seen_at = timezone.now()
        lead: Any = super().get_object(request, object_id, from_field)
        if lead is not None:
            lead.seen_at = seen_at
        return lead

    @admin.display(description="where it stands")
    def stands(self, lead: Any) -> str:
        attempts = list(lead.attempts.defer("response_body").order_by("attempt_no"))
        return standing(lead, attempts, now=lead.seen_at, policy=retry_policy())

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the leads, each with the number of its attempts."""
        return super().get_queryset(request).annotate(made=ATTEMPTS_MADE)

    @admin.display(description="attempts")
    def attempts_made(self, lead: Any) -> int:
        return lead.made or 0
