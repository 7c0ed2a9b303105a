"""The questions that the lists are asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property, lazy
from django.utils.text import capfirst
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import NEEDS_ATTENTION, EventKind, LeadStatus
from leads.rules import RejectionReason
from leads.storable_text import clean_text
from stats.admin.formatting import visible
from stats.text.stored_texts import translate_stored_text

Condition = Q | Exists


class QuestionFilter(admin.SimpleListFilter):
    """A filter by conditions with a name each; what is none of them filters nothing."""

    title: Any
    parameter_name: Any
    #: Parameter -> what the filter's choice is called, and the condition it stands for.
    answers: Mapping[str, tuple[Any, Condition | Callable[[], Condition]]]
    #: What the filter reads from the URL besides.
    more_parameters: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Return what is wrong with what was asked for, in words; nothing when nothing is."""
        return ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _) in self.answers.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        _label, condition = self.answers.get(self.value() or "", ("", Q()))
        return queryset.filter(condition() if callable(condition) else condition)

    def in_words(self) -> str:
        """Return what is asked for, such as `Status: Rejected`; nothing when nothing is."""
        label = dict(self.lookup_choices).get(self.value() or "")
        return f"{capfirst(self.title)}: {label}" if label else ""


def in_words(changelist: ChangeList) -> str:
    """Return how a list was chosen, in English for the trail, and without what was searched for."""
    with override("en"):
        return asked_for(changelist)


def asked_for(changelist: ChangeList) -> str:
    """Return the same in the reader's language."""
    parts = [spec.in_words() for spec in changelist.filter_specs if isinstance(spec, QuestionFilter)]
    parts.append(gettext("a search") if changelist.query.strip() else "")
    return "; ".join(filter(None, parts)) or gettext("all")


# --- leads -----------------------------------------------------------------------------------------------------------

WAITING_FOR_RETRY = Q(status=LeadStatus.FAILED, next_attempt_at__isnull=False)


def _has_attempt(condition: Q) -> Exists:
    return Exists(DeliveryAttempt.objects.filter(condition, lead=OuterRef("pk")))


class SituationFilter(QuestionFilter):
    """What support and operators look for, which the status alone does not say."""

    title = _("situation")
    parameter_name = "situation"
    answers = {
        "attention": (_("Needs attention"), NEEDS_ATTENTION),
        "waiting": (_("Waiting for retry"), WAITING_FOR_RETRY),
        "unknown": (_("Outcome unknown"), _has_attempt(OUTCOME_UNKNOWN)),
        "duplicates": (_("Received more than once"), Q(received_again_at__isnull=False)),
    }


class StatusFilter(QuestionFilter):
    title = _("status")
    parameter_name = "status"
    answers = {status.value: (status.label, Q(status=status)) for status in LeadStatus}


#: The choice for leads of nobody in particular.
NO_SOURCE = "-"


class SourceFilter(QuestionFilter):
    """Who posted it, by the names that are in the settings now, or nobody said; without names there is no choice."""

    title = _("source")
    parameter_name = "source"

    @property
    def answers(self) -> dict[str, tuple[Any, Condition]]:  # type: ignore[override]
        named = {name: (name, Q(source=name)) for name in dict.fromkeys(settings.SHARED_SECRET_NAMES)}
        return named | {NO_SOURCE: (_("none"), Q(source=None))} if named else {}


class ReasonFilter(QuestionFilter):
    title = _("rejection reason")
    parameter_name = "reason"
    answers = {reason.value: (reason.value, Q(rejection_reason=reason)) for reason in RejectionReason}


#: The index from answer to answer, instead of a million rows: there are few different ones.
_ANSWERS_THAT_OCCUR = """
    WITH RECURSIVE seen(answer) AS (
        SELECT min(last_answer) FROM inbound_lead
        UNION ALL
        SELECT (SELECT min(last_answer) FROM inbound_lead WHERE last_answer > seen.answer) FROM seen
        WHERE seen.answer IS NOT NULL
    )
    SELECT answer FROM seen WHERE answer IS NOT NULL LIMIT 50
"""


def _answers_that_occur() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_ANSWERS_THAT_OCCUR)
        return [answer for (answer,) in cursor.fetchall()]


#: Lazy: the trail wants it in English of a list that somebody has asked for in another language.
_as_told = lazy(lambda answer: visible(translate_stored_text(answer)), str)

#: The choice for leads without an answer: they were not sent, or nobody knows what came of it.
NEVER_ANSWERED = "never"


class LastAnswerFilter(QuestionFilter):
    """The customer's last answer to a lead: by its class, or exactly as it is stored."""

    title = _("last answer")
    parameter_name = "answer"
    answers = {
        "4xx": (_("Any HTTP 4xx"), Q(last_answer__range=("400", "499"))),
        "5xx": (_("Any HTTP 5xx"), Q(last_answer__range=("500", "599"))),
        "none": (_("No HTTP answer"), Q(last_answer__gt="599") | Q(last_answer__lt="100")),
        NEVER_ANSWERED: (_("Never answered"), Q(last_answer=None)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        found = dict.fromkeys([*_answers_that_occur(), self._exactly])
        return super().lookups(request, model_admin) + [(answer, _as_told(answer)) for answer in found if answer]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        exactly = self._exactly
        return queryset.filter(last_answer=exactly) if exactly else super().queryset(request, queryset)

    @property
    def _exactly(self) -> str:
        value = clean_text(self.value() or "")
        return "" if value in self.answers else value


def midnight(days_ago: int) -> datetime:
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


class ReceivedFilter(QuestionFilter):
    """When leads came, in days by the staff's clock: a choice, or from one day to another."""

    title = _("received")
    parameter_name = "received"
    more_parameters = ("from", "to")
    answers = {
        "today": (_("Today"), lambda: Q(received_at__gte=midnight(0))),
        "yesterday": (_("Yesterday"), lambda: Q(received_at__gte=midnight(1), received_at__lt=midnight(0))),
        "week": (_("Last 7 days"), lambda: Q(received_at__gte=midnight(6))),
        "month": (_("Last 30 days"), lambda: Q(received_at__gte=midnight(29))),
        "days": (_("From – to"), Q()),
    }

    def __init__(self, request: HttpRequest, params: dict[str, list[str]], model: Any, model_admin: Any) -> None:
        self.first = params.pop("from", [""])[-1].strip()
        self.last = params.pop("to", [""])[-1].strip()
        super().__init__(request, params, model, model_admin)

    def value(self) -> str | None:
        """Return the choice; days that come without one are one themselves."""
        return super().value() or ("days" if self.first or self.last else None)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.problem:
            return queryset.none()
        return super().queryset(request, queryset).filter(self._days.condition() if self._days else Q())

    def in_words(self) -> str:
        told = super().in_words()
        return told if self.problem or not self._days else f"{told} ({self._days.in_words()})"

    @property
    def problem(self) -> str:
        """Return what is wrong with the days, so that nothing is listed for them."""
        try:
            days = self._days
        except ValueError:
            return gettext("One of the days is not a date. No lead is shown.")
        if days and days.first and days.last and days.first > days.last:
            return gettext("The first day is after the last day. No lead is shown.")
        return ""

    @cached_property
    def _days(self) -> "_Days | None":
        return _Days(_day(self.first), _day(self.last)) if self.value() == "days" else None


@dataclass(frozen=True)
class _Days:
    """The days from one to another, both included; either may be missing."""

    first: date | None
    last: date | None

    def condition(self) -> Q:
        after = Q(received_at__gte=_begin(self.first)) if self.first else Q()
        before = Q(received_at__lt=_begin(self.last + timedelta(days=1))) if self.last else Q()
        return after & before

    def in_words(self) -> str:
        first, last = (day.isoformat() if day else "…" for day in (self.first, self.last))
        return f"{first} – {last}"


def _day(text: str) -> date | None:
    """Return the day that the browser sends; None for none.

    :raises ValueError: it is no day, or one so far away that it has no beginning in another zone.
    """
    day = date.fromisoformat(text) if text else None
    if day and not 1900 <= day.year <= 9000:
        raise ValueError(text)
    return day


def _begin(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_current_timezone())


# --- attempts --------------------------------------------------------------------------------------------------------


class OutcomeFilter(QuestionFilter):
    title = _("outcome")
    parameter_name = "outcome"
    answers = {
        "success": (_("Success"), Q(success=True)),
        "failed": (_("Failed"), Q(success=False) & ~OUTCOME_UNKNOWN),
        "unknown": (_("Outcome unknown"), OUTCOME_UNKNOWN),
    }


def _answered(hundreds: int) -> Q:
    """Return the condition for answers of a class; that only a 2xx is a success has the few others found by index."""
    in_class = Q(response_status__range=(100 * hundreds, 100 * hundreds + 99))
    return in_class if hundreds == 2 else in_class & Q(success=False)


class AnswerClassFilter(QuestionFilter):
    title = _("the customer's answer")
    parameter_name = "answer"
    answers = {
        **{f"{n}xx": (f"HTTP {n}xx", _answered(n)) for n in range(1, 6)},
        "none": (_("No answer"), Q(response_status=None)),
    }


# --- events ----------------------------------------------------------------------------------------------------------


class EventFilter(QuestionFilter):
    title = _("what happened")
    parameter_name = "kind"
    answers = {kind.value: (kind.label, Q(kind=kind)) for kind in EventKind}


class ActorFilter(QuestionFilter):
    """The gateway's parts by name, and people: their names are too many to list."""

    title = _("actor")
    parameter_name = "actor"
    parts = ("webhook", "worker", "sweep")
    answers = {part: (part, Q(actor=part)) for part in parts} | {"person": (_("a person"), ~Q(actor__in=parts))}
