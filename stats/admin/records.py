"""The base of all lists and pages of records: read-only, with the filters in a bar and one search box."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from leads import search
from stats.admin import formatting
from stats.admin.pagination import CappedPaginator


class RecordChangeList(ChangeList):
    """A list with its filters in a bar above it instead of Unfold's panel."""

    filter_specs: list[Any]  # SimpleListFilter objects

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.has_filters = False  # hides Unfold's panel
        self.title = str(capfirst(self.opts.verbose_name_plural))

    def get_results(self, request: HttpRequest) -> None:
        """Read the records of the page. Its pagination shows the number of records, so Unfold's header does not."""
        super().get_results(request)
        self.full_result_count = self.result_count
        self.page_num = self.paginator.validate_number(self.page_num)

    @property
    def problems(self) -> list[str]:
        """Return the problems with the requested filters as sentences."""
        return [spec.problem for spec in self.filter_specs if getattr(spec, "problem", "")]

    @property
    def is_narrowed(self) -> bool:
        """Return whether a filter is used."""
        return any(spec.value() for spec in self.filter_specs)

    @property
    def without_filters(self) -> str:
        """Return the query string for the same search without filters."""
        return "?" + urlencode({SEARCH_VAR: self.query} if self.query else {})


class RecordAdmin(ModelAdmin):
    """The list and the pages of a table that only the gateway writes. No user can add, change or delete a record."""

    empty_value_display = formatting.NOTHING
    list_per_page = 50
    list_fullwidth = True
    change_list_template = "stats/admin/list.html"
    show_facets = ShowFacets.NEVER  # facets would count a million rows for each choice
    paginator = CappedPaginator
    search_fields = ("pk",)  # shows the search box; `find` does the search
    search_help_text = gettext_lazy("Lead ID")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow only the parameters of the filters. Django would allow a URL to filter by any column."""
        return any(lookup in _parameters(each) for each in self.get_list_filter(request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Return the records that match the search; all records for a blank search."""
        return (self.find(queryset, search_term) if search_term.strip() else queryset), False

    def find(self, queryset: QuerySet, text: str) -> QuerySet:
        """Return the records of the lead with the typed id; none when the text is no id."""
        number = search.lead_id(text)
        return queryset.none() if number is None else queryset.filter(lead=number)


def _parameters(list_filter: Any) -> tuple[str, ...]:
    return (list_filter.parameter_name, *getattr(list_filter, "more_parameters", ()))


def column(field: str, label: Any, show: Callable[[Any], str] = formatting.plain) -> Callable[[Any, Any], str]:
    """Return a list column or page field that shows an attribute of the record under a label."""

    @admin.display(description=label, ordering=field)
    def shown(_admin: Any, record: Any) -> str:
        return show(getattr(record, field))

    return shown


def lead_link(lead_id: int | None) -> str:
    """Return a link to a lead's page; NOTHING without a lead."""
    if lead_id is None:
        return formatting.NOTHING
    label = _("Lead {id}").format(id=lead_id)
    return format_html(
        '<a class="gateway-link" href="{}">{}</a>', reverse("admin:leads_inboundlead_change", args=[lead_id]), label
    )
