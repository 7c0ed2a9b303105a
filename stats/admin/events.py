"""The trail of all leads, as a list."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from leads.models import LeadEvent
from stats import presentation
from stats.admin.filters import ActorFilter, EventFilter
from stats.admin.records import RecordAdmin, column, lead_link


@admin.register(LeadEvent)
class EventAdmin(RecordAdmin):
    """The events of all leads, the latest first."""

    list_display = ("happened_at", "lead_of", "what", "step", "in_words", "actor")
    list_filter = (EventFilter, ActorFilter)
    fields = readonly_fields = (
        *("happened_at", "lead_of", "what", "step", "in_words", "actor", "correlation"),
        "detail_as_stored",
    )
    ordering = ("-pk",)
    sortable_by = ()
    happened_at = column("at", _("at"), presentation.time_of)
    correlation = column("correlation_id", _("correlation id"), presentation.short_id)
    detail_as_stored = column("detail", _("detail as stored"), presentation.json_block)

    @admin.display(description=_("lead"))
    def lead_of(self, event: LeadEvent) -> str:
        return lead_link(event.lead_id)

    @admin.display(description=_("what happened"))
    def what(self, event: LeadEvent) -> str:
        return presentation.what_happened(event)

    @admin.display(description=_("status"))
    def step(self, event: LeadEvent) -> str:
        return presentation.status_step(event)

    @admin.display(description=_("detail"))
    def in_words(self, event: LeadEvent) -> str:
        return presentation.detail_in_words(event)
