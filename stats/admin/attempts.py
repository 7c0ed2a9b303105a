"""The attempts of all leads, as a list."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from delivery.models import DeliveryAttempt
from stats.admin import formatting
from stats.admin.filters import AnswerClassFilter, OutcomeFilter
from stats.admin.personal_data import MaskedRecords, cover_of
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text.stored_texts import translate_stored_text


@admin.register(DeliveryAttempt)
class AttemptAdmin(MaskedRecords, RecordAdmin):
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
    requested = column("requested_at", _("requested"), formatting.time_of)
    finished = column("finished_at", _("outcome written"), formatting.time_of)
    http_status = column("response_status", _("HTTP status"))

    @admin.display(description=_("outcome"))
    def outcome(self, attempt: DeliveryAttempt) -> str:
        if not attempt.has_outcome:
            return formatting.badge(gettext("Outcome unknown"), "unknown")
        told = (gettext("Success"), "delivered") if attempt.success else (gettext("Failed"), "failed")
        return formatting.badge(*told)

    @admin.display(description=_("duration"))
    def duration(self, attempt: DeliveryAttempt) -> str:
        took = attempt.duration_ms
        return formatting.NOTHING if took is None else f"{number_format(took, force_grouping=True)} ms"

    @admin.display(description=_("error"))
    def error(self, attempt: DeliveryAttempt) -> str:
        text = translate_stored_text(attempt.error_message or "")
        return formatting.visible(cover_of(attempt).text(text)) or formatting.NOTHING

    @admin.display(description=_("the customer's answer"))
    def answer(self, attempt: DeliveryAttempt) -> str:
        body = attempt.response_body
        return formatting.block(formatting.formatted(body, cover_of(attempt))) if body else formatting.NOTHING

    @admin.display(description=_("lead"))
    def lead_of(self, attempt: DeliveryAttempt) -> str:
        return lead_link(attempt.lead_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the attempts, each without its answer until somebody looks at it."""
        return super().get_queryset(request).defer("response_body")
