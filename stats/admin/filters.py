"""The filters of the lists of leads, attempts and events."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import NEEDS_ATTENTION, EventKind, LeadStatus
from leads.rules import RejectionReason
from leads.storable_text import clean_text
from stats.admin.formatting import escape_invisible
from stats.text.filters import CHOICES, NO_RESPONSE, NO_SOURCE, TITLES, selection_of_filters
from stats.text.reasons import response_text

Condition = Q | Exists | Callable[[], Q]


class ConditionFilter(admin.SimpleListFilter):
    """A filter with one condition for each choice. An unknown choice filters nothing."""

    title: Any
    parameter_name: Any
    #: Choice -> its label, and the condition it stands for.
    conditions: Mapping[str, tuple[Any, Condition]]
    #: Further query parameters that the filter reads.
    more_parameters: ClassVar[tuple[str, ...]] = ()

    @property
    def problem(self) -> str:
        """Return what is wrong with the requested choice, or an empty string."""
        return ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _condition) in self.conditions.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        _label, condition = self.conditions.get(self.value() or "", ("", Q()))
        return queryset.filter(condition() if callable(condition) else condition)

    def selection(self) -> dict[str, str]:
        """Return the query parameters of a known choice; empty when the filter is not used."""
        value = self.value() or ""
        return {self.parameter_name: value} if value in dict(self.lookup_choices) else {}


def selection(changelist: ChangeList) -> str:
    """Return how a list of leads was selected, in its stored form: without the search text."""
    parameters: dict[str, str] = {}
    for spec in changelist.filter_specs:
        if isinstance(spec, ConditionFilter):
            parameters |= spec.selection()
    return selection_of_filters(parameters, has_search=bool(changelist.query.strip()))


# --- leads -----------------------------------------------------------------------------------------------------------

WAITING_FOR_RETRY = Q(status=LeadStatus.FAILED, next_attempt_at__isnull=False)


def _labelled(parameter: str, conditions: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the conditions of a filter with the labels of their choices."""
    return {choice: (CHOICES[parameter][choice], condition) for choice, condition in conditions.items()}


class SituationFilter(ConditionFilter):
    """Groups of leads that support and operators need and that share a status with other leads."""

    title = TITLES["situation"]
    parameter_name = "situation"
    conditions = _labelled(
        "situation",
        {
            "attention": NEEDS_ATTENTION,
            "waiting": WAITING_FOR_RETRY,
            "unknown": Exists(DeliveryAttempt.objects.filter(OUTCOME_UNKNOWN, lead=OuterRef("pk"))),
            "duplicates": Q(received_again_at__isnull=False),
        },
    )


class StatusFilter(ConditionFilter):
    title = TITLES["status"]
    parameter_name = "status"
    conditions = _labelled("status", {status.value: Q(status=status) for status in LeadStatus})


class SourceFilter(ConditionFilter):
    """The source that posted the lead. It is only shown when the settings name sources."""

    title = TITLES["source"]
    parameter_name = "source"

    @property
    def conditions(self) -> dict[str, tuple[Any, Condition]]:  # type: ignore[override]
        named = {name: (name, Q(source=name)) for name in dict.fromkeys(settings.SHARED_SECRET_NAMES)}
        return named | _labelled("source", {NO_SOURCE: Q(source=None)}) if named else {}


class ReasonFilter(ConditionFilter):
    title = TITLES["reason"]
    parameter_name = "reason"
    conditions = {reason.value: (reason.value, Q(rejection_reason=reason)) for reason in RejectionReason}


#: Jumps through the index from one value to the next, because a million leads have few different responses.
_DISTINCT_RESPONSES = """
    WITH RECURSIVE seen(answer) AS (
        SELECT min(last_answer) FROM inbound_lead
        UNION ALL
        SELECT (SELECT min(last_answer) FROM inbound_lead WHERE last_answer > seen.answer) FROM seen
        WHERE seen.answer IS NOT NULL
    )
    SELECT answer FROM seen WHERE answer IS NOT NULL LIMIT 50
"""


def _distinct_responses() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_DISTINCT_RESPONSES)
        return [answer for (answer,) in cursor.fetchall()]


class LastResponseFilter(ConditionFilter):
    """The customer's last response to a lead: a class of responses, or one response exactly as stored."""

    title = TITLES["answer"]
    parameter_name = "answer"
    conditions = _labelled(
        "answer",
        {
            "4xx": Q(last_answer__range=("400", "499")),
            "5xx": Q(last_answer__range=("500", "599")),
            "none": Q(last_answer__gt="599") | Q(last_answer__lt="100"),
            NO_RESPONSE: Q(last_answer=None),
        },
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        exact = filter(None, dict.fromkeys([*_distinct_responses(), self._exact]))
        labels = [(answer, escape_invisible(response_text(answer) or "")) for answer in exact]
        return super().lookups(request, model_admin) + labels

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(last_answer=self._exact) if self._exact else super().queryset(request, queryset)

    @property
    def _exact(self) -> str:
        value = clean_text(self.value() or "")
        return "" if value in self.conditions else value


def midnight(days_ago: int) -> datetime:
    """Return when a day began in the time zone of the staff."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


class ReceivedFilter(ConditionFilter):
    """The day on which a lead was received, in the time zone of the staff: a choice, or a range of days."""

    title = TITLES["received"]
    parameter_name = "received"
    more_parameters = ("from", "to")
    conditions = _labelled(
        "received",
        {
            "today": lambda: Q(received_at__gte=midnight(0)),
            "yesterday": lambda: Q(received_at__gte=midnight(1), received_at__lt=midnight(0)),
            "week": lambda: Q(received_at__gte=midnight(6)),
            "month": lambda: Q(received_at__gte=midnight(29)),
            "days": Q(),
        },
    )

    def __init__(self, request: HttpRequest, params: dict[str, list[str]], model: Any, model_admin: Any) -> None:
        self.first = params.pop("from", [""])[-1].strip()
        self.last = params.pop("to", [""])[-1].strip()
        super().__init__(request, params, model, model_admin)

    def value(self) -> str | None:
        """Return the choice; `days` when the URL has a first or last day and no choice."""
        return super().value() or ("days" if self.first or self.last else None)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.problem:
            return queryset.none()
        first, last = self._days
        after = Q(received_at__gte=_start_of(first)) if first else Q()
        before = Q(received_at__lt=_start_of(last + timedelta(days=1))) if last else Q()
        return super().queryset(request, queryset).filter(after & before)

    def selection(self) -> dict[str, str]:
        chosen = super().selection()
        if self.problem or self.value() != "days":
            return chosen
        days = {"from": self.first, "to": self.last}
        return chosen | {name: day for name, day in days.items() if day}

    @property
    def problem(self) -> str:
        """Return what is wrong with the range of days, for which no lead is listed; or an empty string."""
        try:
            first, last = self._days
        except ValueError:
            return gettext("Enter valid dates. No leads are shown.")
        if first and last and first > last:
            return gettext("The first day is after the last day. No leads are shown.")
        return ""

    @cached_property
    def _days(self) -> tuple[date | None, date | None]:
        return (_day(self.first), _day(self.last)) if self.value() == "days" else (None, None)


def _day(text: str) -> date | None:
    """Return the day that a browser sent; None for an empty text.

    :raises ValueError: it is not a day, or so far away that it has no start in another time zone.
    """
    day = date.fromisoformat(text) if text else None
    if day and not 1900 <= day.year <= 9000:
        raise ValueError(text)
    return day


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_current_timezone())


#: The filters of the list of leads, in their order on the page.
LEAD_FILTERS: tuple[type[ConditionFilter], ...] = (
    SituationFilter,
    StatusFilter,
    ReasonFilter,
    SourceFilter,
    LastResponseFilter,
    ReceivedFilter,
)

# --- attempts --------------------------------------------------------------------------------------------------------


class OutcomeFilter(ConditionFilter):
    title = _("outcome")
    parameter_name = "outcome"
    conditions = {
        "success": (_("Success"), Q(success=True)),
        "failed": (_("Failed"), Q(success=False) & ~OUTCOME_UNKNOWN),
        "unknown": (_("Outcome unknown"), OUTCOME_UNKNOWN),
    }


def _status_class(hundreds: int) -> Q:
    """Return the condition for a class of HTTP statuses. An index covers all classes but 2xx, the only success."""
    in_class = Q(response_status__range=(100 * hundreds, 100 * hundreds + 99))
    return in_class if hundreds == 2 else in_class & Q(success=False)


class ResponseFilter(ConditionFilter):
    title = _("customer's response")
    parameter_name = "answer"
    conditions = {
        **{f"{n}xx": (f"HTTP {n}xx", _status_class(n)) for n in range(1, 6)},
        "none": (_("No response"), Q(response_status=None)),
    }


# --- events ----------------------------------------------------------------------------------------------------------


class EventFilter(ConditionFilter):
    title = _("event")
    parameter_name = "kind"
    conditions = {kind.value: (kind.label, Q(kind=kind)) for kind in EventKind}


class ActorFilter(ConditionFilter):
    """The gateway's processes by name, and all people together: they are too many to list."""

    title = _("actor")
    parameter_name = "actor"
    processes = ("webhook", "worker", "sweep")
    conditions = {name: (name, Q(actor=name)) for name in processes} | {
        "person": (_("A person"), ~Q(actor__in=processes))
    }
