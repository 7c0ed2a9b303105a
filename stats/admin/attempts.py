"""The list and the page of delivery attempts."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from delivery.models import DeliveryAttempt
from stats.admin import formatting
from stats.admin.filters import OutcomeFilter, ResponseFilter
from stats.admin.personal_data import MaskedRecords, masker_of
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text.reasons import attempt_error


@admin.register(DeliveryAttempt)
class AttemptAdmin(MaskedRecords, RecordAdmin):
    """Delivery attempts, the latest first."""

    list_display = ("requested", "lead_of", "number", "http_status", "outcome", "duration", "error_in_words")
    list_filter = (OutcomeFilter, ResponseFilter)
    fields = readonly_fields = (
        *("lead_of", "number", "requested", "finished"),
        *("duration", "http_status", "outcome", "error_in_words", "response"),
    )
    ordering = ("-pk",)
    sortable_by = ()
    number = column("attempt_no", _("no."))
    requested = column("requested_at", _("requested"), formatting.short_time)
    finished = column("finished_at", _("finished"), formatting.short_time)
    http_status = column("response_status", _("HTTP status"))

    @admin.display(description=_("outcome"))
    def outcome(self, attempt: DeliveryAttempt) -> str:
        if not attempt.has_outcome:
            return formatting.badge(gettext("Outcome unknown"), "unknown")
        if attempt.success:
            return formatting.badge(gettext("Success"), "delivered")
        return formatting.badge(gettext("Failed"), "failed")

    @admin.display(description=_("duration"))
    def duration(self, attempt: DeliveryAttempt) -> str:
        return formatting.NOTHING if attempt.duration_ms is None else f"{formatting.number(attempt.duration_ms)} ms"

    @admin.display(description=_("error"))
    def error_in_words(self, attempt: DeliveryAttempt) -> str:
        return formatting.escape_invisible(masker_of(attempt).text(attempt_error(attempt))) or formatting.NOTHING

    @admin.display(description=_("customer's response"))
    def response(self, attempt: DeliveryAttempt) -> str:
        body = attempt.response_body
        return formatting.block(formatting.readable(body, masker_of(attempt))) if body else formatting.NOTHING

    @admin.display(description=_("lead"))
    def lead_of(self, attempt: DeliveryAttempt) -> str:
        return lead_link(attempt.lead_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the attempts without their response bodies, which the page of one attempt loads."""
        return super().get_queryset(request).defer("response_body")
