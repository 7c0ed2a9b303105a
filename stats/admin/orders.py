"""Orders: what operators had done to many leads, and how far it is."""

from django.contrib import admin

from delivery.models import BatchOrder
from stats.admin.records import RecordAdmin


@admin.register(BatchOrder)
class OrderAdmin(RecordAdmin):
    """Orders, the latest first."""

    list_display = ("id", "kind", "placed_at", "actor", "total", "done", "refused")
    ordering = ("-pk",)
    sortable_by = ()
