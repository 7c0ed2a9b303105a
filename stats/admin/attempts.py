"""The attempts of all leads, as a list."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from delivery.models import DeliveryAttempt
from stats import presentation
from stats.admin.filters import AnswerClassFilter, OutcomeFilter
from stats.admin.records import RecordAdmin, column, lead_link


@admin.register(DeliveryAttempt)
class AttemptAdmin(RecordAdmin):
    """The attempts of all leads, the latest first."""

    list_display = ("requested", "lead_of", "number", "http_status", "outcome", "duration", "error")
    list_filter = (OutcomeFilter, AnswerClassFilter)
    fields = readonly_fields = (
        *("lead_of", "number", "requested", "finished"),
        *("duration", "http_status", "outcome", "error", "answer"),
    )
    ordering = ("-requested_at", "-pk")
    sortable_by = ()
    number = column("attempt_no", _("no."))
    requested = column("requested_at", _("requested"), presentation.time_of)
    finished = column("finished_at", _("outcome written"), presentation.time_of)
    http_status = column("response_status", _("HTTP status"))
    error = column("error_message", _("error"))

    @admin.display(description=_("outcome"))
    def outcome(self, attempt: DeliveryAttempt) -> str:
        if not attempt.has_outcome:
            return presentation.badge("Outcome unknown", "unknown")
        return presentation.badge(*(("Success", "delivered") if attempt.success else ("Failed", "failed")))

    @admin.display(description=_("duration"))
    def duration(self, attempt: DeliveryAttempt) -> str:
        return presentation.NOTHING if attempt.duration_ms is None else f"{attempt.duration_ms:,} ms"

    @admin.display(description=_("the customer's answer"))
    def answer(self, attempt: DeliveryAttempt) -> str:
        body = attempt.response_body
        if not body:
            return presentation.NOTHING
        shown = presentation.block(presentation.visible(body))
        return format_html("<details><summary>{} characters</summary>{}</details>", f"{len(body):,}", shown)

    @admin.display(description=_("lead"))
    def lead_of(self, attempt: DeliveryAttempt) -> str:
        return lead_link(attempt.lead_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the attempts, each without its answer until somebody looks at it."""
        return super().get_queryset(request).defer("response_body")
