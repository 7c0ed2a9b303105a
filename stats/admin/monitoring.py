"""The lists and pages of incidents and of hourly statistics."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format, time_format
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from leadgateway.time_format import span
from leads.storable_text import clean_text
from stats.admin import formatting
from stats.admin.filters import ConditionFilter
from stats.admin.records import RecordAdmin, column
from stats.models import HourlyStatistics, Incident
from stats.monitoring.checks.pipeline import IncidentKind
from stats.text.filters import CHOICES, NO_SOURCE
from stats.text.incidents import INCIDENTS, Description, describe_incident

# --- incidents -------------------------------------------------------------------------------------------------------


class StateFilter(ConditionFilter):
    title = _("state")
    parameter_name = "state"
    conditions = {"open": (_("Running"), Q(closed_at=None)), "resolved": (_("Resolved"), Q(closed_at__isnull=False))}


class KindFilter(ConditionFilter):
    title = _("kind")
    parameter_name = "kind"
    conditions = {kind.value: (text.name, Q(kind=kind)) for kind, text in INCIDENTS.items()}


@admin.register(Incident)
class IncidentAdmin(RecordAdmin):
    """Incidents, the latest first."""

    list_display = ("opened", "name", "state", "duration", "description")
    list_filter = (StateFilter, KindFilter)
    fields = readonly_fields = (
        *("name", "state", "opened", "seen", "closed", "duration", "description", "advice"),
        *("alerts", "detail_as_stored"),
    )
    sortable_by = ()
    ordering = ("-pk",)
    search_help_text = _("Name of a source")
    opened = column("opened_at", _("started"), formatting.short_time)
    seen = column("last_seen_at", _("last seen"), formatting.short_time)
    closed = column("closed_at", _("resolved"), formatting.short_time)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the incidents of the sources whose name contains the text."""
        return queryset.filter(subject__icontains=clean_text(text.strip()))

    @admin.display(description=_("kind"))
    def name(self, incident: Incident) -> str:
        return str(INCIDENTS[IncidentKind(incident.kind)].name)

    @admin.display(description=_("state"))
    def state(self, incident: Incident) -> str:
        if incident.closed_at is None:
            return formatting.badge(gettext("Running"), "failed")
        return formatting.badge(gettext("Resolved"), "delivered")

    @admin.display(description=_("duration"))
    def duration(self, incident: Incident) -> str:
        return span((incident.closed_at or timezone.now()) - incident.opened_at)

    @admin.display(description=_("description"))
    def description(self, incident: Incident) -> str:
        return formatting.escape_invisible(_text(incident).problem)

    @admin.display(description=_("what to do"))
    def advice(self, incident: Incident) -> str:
        return _text(incident).remedy

    @admin.display(description=_("alerts"))
    def alerts(self, incident: Incident) -> str:
        """Return the alerts with their channels and times."""
        alerts = [
            _ALERTS[alert.channel, alert.is_recovery].format(
                time=gettext("not sent yet") if alert.sent_at is None else formatting.exact_time(alert.sent_at)
            )
            for alert in incident.alerts.order_by("pk")
        ]
        return "; ".join(alerts) or formatting.NOTHING

    @admin.display(description=_("detail (JSON)"))
    def detail_as_stored(self, incident: Incident) -> str:
        return formatting.json_block(incident.detail)


_ALERTS = {
    ("email", False): _("start reported by e-mail: {time}"),
    ("email", True): _("end reported by e-mail: {time}"),
    ("webhook", False): _("start reported by webhook: {time}"),
    ("webhook", True): _("end reported by webhook: {time}"),
}


def _text(incident: Incident) -> Description:
    return describe_incident(incident, now=incident.last_seen_at)


# --- hourly statistics -----------------------------------------------------------------------------------------------


class SourceFilter(ConditionFilter):
    """The sources that occur in the statistics."""

    title = _("source")
    parameter_name = "source"
    conditions = {}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        names = HourlyStatistics.objects.order_by("source").values_list("source", flat=True).distinct()
        return [(name or NO_SOURCE, name or CHOICES["source"][NO_SOURCE]) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        source = self.value()
        return queryset.filter(source="" if source == NO_SOURCE else source) if source else queryset


_OUTCOMES = {"delivered": _("delivered"), "failed": _("failed"), "refused": _("rejected")}


def _hour(hour: datetime) -> str:
    local = timezone.localtime(hour)
    return _unwrapped(f"{date_format(local, 'SHORT_DATE_FORMAT')} {time_format(local, 'H:i')}")


def _number(number: int) -> str:
    return formatting.number(number) if number else formatting.NOTHING


def _parts(parts: dict[str, int], names: dict[str, Any] | None = None) -> str:
    """Return numbers with their names, such as `12 delivered, 3 failed`."""
    shown = (f"{_number(number)} {(names or {}).get(name, name)}" for name, number in sorted(parts.items()) if number)
    return ", ".join(shown) or formatting.NOTHING


def _duration(seconds: float | None) -> str:
    return _unwrapped(formatting.duration(seconds))


def _unwrapped(text: str) -> str:
    """Return a text that does not wrap in a narrow column."""
    return format_html('<span class="gateway-one-line">{}</span>', text)


@admin.register(HourlyStatistics)
class HourlyStatisticsAdmin(RecordAdmin):
    """Hours, the latest first, with one row for each source."""

    list_display = (
        *("start", "source_name", "accepted_n", "duplicates_n", "rejected_n"),
        *("delivered_n", "failed_n", "permanently_failed_n", "attempts_n", "p50", "p95"),
    )
    list_filter = (SourceFilter,)
    list_per_page = 48
    fields = readonly_fields = (
        *("start", "source_name", "accepted_n", "duplicates_n", "reasons"),
        *("delivered_n", "failed_n", "permanently_failed_n", "outcomes", "p50", "p95"),
    )
    sortable_by = ()
    ordering = ("-hour", "source")
    search_help_text = _("Name of a source")
    start = column("hour", _("hour"), _hour)
    accepted_n = column("accepted", _("accepted"), _number)
    duplicates_n = column("duplicates", _("duplicates"), _number)
    rejected_n = column("rejected", _("rejected"), lambda parts: _number(sum(parts.values())))
    reasons = column("rejected", _("rejected"), _parts)
    delivered_n = column("delivered", _("delivered"), _number)
    failed_n = column("failed", _("failed"), _number)
    permanently_failed_n = column("permanently_failed", _("permanently failed"), _number)
    attempts_n = column("attempts", _("attempts"), lambda parts: _number(sum(parts.values())))
    outcomes = column("attempts", _("attempts"), lambda parts: _parts(parts, _OUTCOMES))
    p50 = column("p50_s", _("p50"), _duration)
    p95 = column("p95_s", _("p95"), _duration)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the hours of the sources whose name contains the text."""
        return queryset.filter(source__icontains=clean_text(text.strip()))

    @admin.display(description=_("source"))
    def source_name(self, row: HourlyStatistics) -> str:
        return row.source or formatting.NOTHING
