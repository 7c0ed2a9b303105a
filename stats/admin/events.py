"""The list and the page of events in the audit log."""

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from leads.models import LeadEvent
from stats.admin import formatting
from stats.admin.bulk_actions import BulkActionFilter
from stats.admin.filters import ActorFilter, EventFilter
from stats.admin.personal_data import MaskedRecords, masker_of
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text import events


@admin.register(LeadEvent)
class EventAdmin(MaskedRecords, RecordAdmin):
    """Events, the latest first."""

    list_display = ("happened_at", "lead_of", "event", "status_change", "detail_in_words", "by_whom")
    list_filter = (EventFilter, ActorFilter, BulkActionFilter)
    fields = readonly_fields = (
        *("happened_at", "lead_of", "event", "status_change", "detail_in_words", "by_whom", "correlation"),
        "detail_as_stored",
    )
    ordering = ("-pk",)
    sortable_by = ()
    happened_at = column("at", _("time"), formatting.short_time)
    by_whom = column("actor", _("actor"))

    @admin.display(description=_("lead"))
    def lead_of(self, event: LeadEvent) -> str:
        return lead_link(event.lead_id)

    @admin.display(description=_("event"))
    def event(self, event: Any) -> str:
        return formatting.escape_invisible(masker_of(event).text(events.event_title(event)))

    @admin.display(description=_("status"))
    def status_change(self, event: LeadEvent) -> str:
        return events.status_change(event) or formatting.NOTHING

    @admin.display(description=_("detail"))
    def detail_in_words(self, event: Any) -> str:
        return formatting.escape_invisible(events.detail_text(event, masker_of(event))) or formatting.NOTHING

    @admin.display(description=_("correlation ID"))
    def correlation(self, event: LeadEvent) -> Any:
        return event.correlation_id or (event.lead and event.lead.correlation_id) or formatting.NOTHING

    @admin.display(description=_("detail (JSON)"))
    def detail_as_stored(self, event: Any) -> str:
        return formatting.json_block(masker_of(event).json(event.detail))
