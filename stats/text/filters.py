"""The filters of the lead list: their titles and choices, and a selection of leads in words.

A selection is stored as a query string: the parameters of the list, such as `status=FAILED&received=week`, or
`ids=1,2,3`. It contains no search text, because that may be personal data: `search=1` says that there was one.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from leads.models import LeadStatus
from stats.text.reasons import response_text

#: Leads that a selection lists by id; of more leads it stores only the number.
MAX_LISTED_IDS = 5

#: The choice for leads without a source.
NO_SOURCE = "-"

#: The choice for leads without a response.
NO_RESPONSE = "never"

#: Query parameter -> title of the filter.
TITLES: dict[str, Any] = {
    "situation": gettext_lazy("situation"),
    "status": gettext_lazy("status"),
    "reason": gettext_lazy("rejection reason"),
    "source": gettext_lazy("source"),
    "answer": gettext_lazy("last response"),
    "received": gettext_lazy("received"),
}

#: Query parameter -> its values and their labels. A value that is not listed is shown as it is.
CHOICES: dict[str, dict[str, Any]] = {
    "situation": {
        "attention": gettext_lazy("Needs attention"),
        "waiting": gettext_lazy("Waiting for retry"),
        "unknown": gettext_lazy("Outcome unknown"),
        "duplicates": gettext_lazy("Received more than once"),
    },
    "status": {status.value: status.label for status in LeadStatus},
    "source": {NO_SOURCE: pgettext_lazy("source", "None")},
    "answer": {
        "4xx": gettext_lazy("Any HTTP 4xx"),
        "5xx": gettext_lazy("Any HTTP 5xx"),
        "none": gettext_lazy("No HTTP response"),
        NO_RESPONSE: gettext_lazy("No response yet"),
    },
    "received": {
        "today": gettext_lazy("Today"),
        "yesterday": gettext_lazy("Yesterday"),
        "week": gettext_lazy("Last 7 days"),
        "month": gettext_lazy("Last 30 days"),
        "days": gettext_lazy("Date range"),
    },
}


def selection_of_ids(ids: list[int]) -> str:
    """Return the stored form of leads that were selected one by one."""
    if len(ids) > MAX_LISTED_IDS:
        return f"count={len(ids)}"
    return f"ids={','.join(map(str, ids))}"


def selection_of_filters(parameters: Mapping[str, str], *, has_search: bool) -> str:
    """Return the stored form of leads that were selected by filters and possibly a search."""
    return urlencode({**parameters, **({"search": "1"} if has_search else {})}) or "all=1"


def selection_text(stored: str) -> str:
    """Return a stored selection as text, such as `Status: Failed; Received: Last 7 days; Search`."""
    if "=" not in stored:
        return stored
    parameters = dict(parse_qsl(stored, keep_blank_values=True))
    return "; ".join(filter(None, (_part(name, value, parameters) for name, value in parameters.items())))


def _part(name: str, value: str, parameters: dict[str, str]) -> str:
    match name:
        case "all":
            return _("All leads")
        case "search":
            return _("Search")
        case "ids":
            return ngettext("Lead {ids}", "Leads {ids}", value.count(",") + 1).format(ids=value.replace(",", ", "))
        case "count":
            return _selected(value)
        case "from" | "to":
            return ""  # shown with `received`
        case "received" if value == "days":
            return f"{_title(name)}: {parameters.get('from') or '…'} – {parameters.get('to') or '…'}"
    return f"{_title(name)}: {_choice(name, value)}"


def _selected(count: str) -> str:
    number = number_format(int(count), force_grouping=True) if count.isdecimal() else count
    return _("{number} leads, selected one by one").format(number=number)


def _title(name: str) -> str:
    return str(capfirst(TITLES.get(name, name)))


def _choice(name: str, value: str) -> str:
    label = CHOICES.get(name, {}).get(value)
    if label is not None:
        return str(label)
    return response_text(value) or "" if name == "answer" else value
