"""What went wrong with the pipeline, and what happened hour by hour, as lists."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format, number_format, time_format
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from leadgateway.time_format import span
from leads.storable_text import clean_text
from stats.admin import formatting
from stats.admin.filters import QuestionFilter
from stats.admin.records import RecordAdmin, column
from stats.models import HourlyStatistics, Incident
from stats.monitoring.rules import Kind
from stats.text.incidents import NAMES, tell

# --- incidents -------------------------------------------------------------------------------------------------------


class OverFilter(QuestionFilter):
    title = _("state")
    parameter_name = "state"
    answers = {"open": (_("Open"), Q(closed_at=None)), "over": (_("Over"), Q(closed_at__isnull=False))}


class KindFilter(QuestionFilter):
    title = _("kind")
    parameter_name = "kind"
    answers = {kind.value: (name, Q(kind=kind)) for kind, name in NAMES.items()}


@admin.register(Incident)
class IncidentAdmin(RecordAdmin):
    """The incidents, the latest first."""

    list_display = ("opened", "what", "state", "lasted", "in_words")
    list_filter = (OverFilter, KindFilter)
    fields = readonly_fields = (
        *("what", "state", "opened", "seen", "closed", "lasted", "in_words", "advice", "told", "detail_as_stored"),
    )
    sortable_by = ()
    ordering = ("-pk",)
    search_help_text = _("A source's name")
    opened = column("opened_at", _("began"), formatting.time_of)
    seen = column("last_seen_at", _("last seen"), formatting.time_of)
    closed = column("closed_at", _("over"), formatting.time_of)

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the incidents of a source."""
        return queryset.filter(subject__icontains=clean_text(text.strip()))

    @admin.display(description=_("kind"))
    def what(self, incident: Incident) -> str:
        return str(NAMES[Kind(incident.kind)])

    @admin.display(description=_("state"))
    def state(self, incident: Incident) -> str:
        if incident.closed_at is None:
            return formatting.badge(gettext("Open"), "failed")
        return formatting.badge(gettext("Over"), "delivered")

    @admin.display(description=_("lasted"))
    def lasted(self, incident: Incident) -> str:
        return span((incident.closed_at or timezone.now()) - incident.opened_at)

    @admin.display(description=_("when last seen"))
    def in_words(self, incident: Incident) -> str:
        return formatting.visible(_told(incident).what)

    @admin.display(description=_("what to do"))
    def advice(self, incident: Incident) -> str:
        return _told(incident).advice

    @admin.display(description=_("alerts"))
    def told(self, incident: Incident) -> str:
        """Say by which channels people were told, and when."""
        lines = [
            _ALERTS[alert.channel, alert.is_over].format(
                at=gettext("not sent yet") if alert.sent_at is None else formatting.exact(alert.sent_at)
            )
            for alert in incident.alerts.order_by("pk")
        ]
        return "; ".join(lines) or formatting.NOTHING

    @admin.display(description=_("detail as stored"))
    def detail_as_stored(self, incident: Incident) -> str:
        return formatting.json_block(incident.detail)


_ALERTS = {
    ("email", False): _("that it began, by e-mail: {at}"),
    ("email", True): _("that it is over, by e-mail: {at}"),
    ("webhook", False): _("that it began, by webhook: {at}"),
    ("webhook", True): _("that it is over, by webhook: {at}"),
}


def _told(incident: Incident) -> Any:
    return tell(Kind(incident.kind), incident.detail, now=incident.last_seen_at, subject=incident.subject)


# --- hours -----------------------------------------------------------------------------------------------------------


class SourceFilter(QuestionFilter):
    """The sources that there are."""

    title = _("source")
    parameter_name = "source"
    answers = {}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        names = HourlyStatistics.objects.order_by("source").values_list("source", flat=True).distinct()
        return [(name or _NOBODY_SAID, name or gettext("not said")) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        asked = self.value()
        return queryset.filter(source="" if asked == _NOBODY_SAID else asked) if asked else queryset


_OUTCOMES = {"delivered": _("delivered"), "failed": _("failed"), "refused": _("refused")}

#: The parameter for the rows without a source.
_NOBODY_SAID = "-"


@admin.register(HourlyStatistics)
class HourlyStatisticsAdmin(RecordAdmin):
    """The hours, the latest first; one row for each source."""

    list_display = (
        *("began", "source_name", "accepted_n", "duplicates_n", "rejected_n", "delivered_n", "failed_n", "given_up_n"),
        *("attempts_n", "p50", "p95"),
    )
    list_filter = (SourceFilter,)
    list_per_page = 48
    fields = readonly_fields = (
        *("began", "source_name", "accepted_n", "duplicates_n", "reasons", "delivered_n", "failed_n", "given_up_n"),
        *("outcomes", "p50", "p95"),
    )
    sortable_by = ()
    ordering = ("-hour", "source")
    search_help_text = _("A source's name")
    began = column("hour", _("hour"), lambda hour: _hour(hour))
    accepted_n = column("accepted", _("accepted"), lambda number: _number(number))
    duplicates_n = column("duplicates", _("duplicates"), lambda number: _number(number))
    rejected_n = column("rejected", _("rejected"), lambda parts: _number(sum(parts.values())))
    reasons = column("rejected", _("rejected"), lambda parts: _parts(parts))
    delivered_n = column("delivered", _("delivered"), lambda number: _number(number))
    failed_n = column("failed", _("failures"), lambda number: _number(number))
    given_up_n = column("permanently_failed", _("given up"), lambda number: _number(number))
    attempts_n = column("attempts", _("attempts"), lambda parts: _number(sum(parts.values())))
    outcomes = column("attempts", _("attempts"), lambda parts: _parts(parts, _OUTCOMES))
    p50 = column("p50_s", _("p50"), lambda seconds: _duration(seconds))
    p95 = column("p95_s", _("p95"), lambda seconds: _duration(seconds))

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the hours of a source."""
        return queryset.filter(source__icontains=clean_text(text.strip()))

    @admin.display(description=_("source"))
    def source_name(self, row: HourlyStatistics) -> str:
        return row.source or formatting.NOTHING


def _hour(hour: datetime) -> str:
    local = timezone.localtime(hour)
    return _in_one_line(f"{date_format(local, 'SHORT_DATE_FORMAT')} {time_format(local, 'H:i')}")


def _number(number: int) -> str:
    return str(number_format(number, force_grouping=True)) if number else formatting.NOTHING


def _parts(parts: dict[str, int], names: dict[str, Any] | None = None) -> str:
    """Return the numbers with what they count, such as `12 delivered, 3 failed`."""
    told = (f"{_number(number)} {(names or {}).get(name, name)}" for name, number in sorted(parts.items()) if number)
    return ", ".join(told) or formatting.NOTHING


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return formatting.NOTHING
    told = span(timedelta(seconds=seconds)) if seconds >= 10 else f"{number_format(round(seconds, 1), 1)} s"
    return _in_one_line(told)


def _in_one_line(text: str) -> str:
    """Return a text that does not wrap in a narrow column."""
    return format_html('<span class="gateway-one-line">{}</span>', text)
