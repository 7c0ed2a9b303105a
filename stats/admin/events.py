"""The trail of all leads, as a list."""

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from leads.models import LeadEvent
from stats.admin import formatting
from stats.admin.bulk_actions import BulkActionKindFilter
from stats.admin.filters import ActorFilter, EventFilter
from stats.admin.personal_data import MaskedRecords, cover_of
from stats.admin.records import RecordAdmin, column, lead_link
from stats.text import events


@admin.register(LeadEvent)
class EventAdmin(MaskedRecords, RecordAdmin):
    """The events of all leads, the latest first."""

    list_display = ("happened_at", "lead_of", "what", "step", "in_words", "by_whom")
    list_filter = (EventFilter, ActorFilter, BulkActionKindFilter)
    fields = readonly_fields = (
        *("happened_at", "lead_of", "what", "step", "in_words", "by_whom", "correlation"),
        "detail_as_stored",
    )
    ordering = ("-pk",)
    sortable_by = ()
    happened_at = column("at", _("at"), formatting.time_of)
    by_whom = column("actor", _("actor"))
    correlation = column("correlation_id", _("correlation id"))

    @admin.display(description=_("lead"))
    def lead_of(self, event: LeadEvent) -> str:
        return lead_link(event.lead_id)

    @admin.display(description=_("what happened"))
    def what(self, event: Any) -> str:
        return formatting.visible(cover_of(event).text(events.what_happened(event)))

    @admin.display(description=_("status"))
    def step(self, event: LeadEvent) -> str:
        return events.status_step(event) or formatting.NOTHING

    @admin.display(description=_("detail"))
    def in_words(self, event: Any) -> str:
        return formatting.visible(events.detail_in_words(event, cover_of(event))) or formatting.NOTHING

    @admin.display(description=_("detail as stored"))
    def detail_as_stored(self, event: Any) -> str:
        return formatting.json_block(cover_of(event).json(event.detail))
