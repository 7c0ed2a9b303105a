"""The questions that the lists are asked."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from delivery.models import OUTCOME_UNKNOWN, DeliveryAttempt
from leads.models import NEEDS_ATTENTION, EventKind, LeadEvent, LeadStatus
from leads.rules import RejectionReason


class QuestionFilter(admin.SimpleListFilter):
    """A filter by conditions with a name each; what is none of them filters nothing."""

    #: Parameter -> what the filter's choice is called, and the condition it stands for.
    answers: Mapping[str, tuple[Any, Q | Exists | Callable[[], Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _) in self.answers.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        _label, condition = self.answers.get(self.value() or "", ("", Q()))
        return queryset.filter(condition() if callable(condition) else condition)


# --- leads -----------------------------------------------------------------------------------------------------------


def _has_attempt(condition: Q) -> Exists:
    return Exists(DeliveryAttempt.objects.filter(condition, lead=OuterRef("pk")))


def _has_event(kind: EventKind) -> Exists:
    return Exists(LeadEvent.objects.filter(kind=kind, lead=OuterRef("pk")))


class SituationFilter(QuestionFilter):
    """What support and operators look for, which the status alone does not say."""

    title = _("situation")
    parameter_name = "situation"
    answers = {
        "attention": (_("Needs attention"), NEEDS_ATTENTION),
        "waiting": (_("Waiting for retry"), Q(status=LeadStatus.FAILED, next_attempt_at__isnull=False)),
        "unknown": (_("Outcome unknown"), _has_attempt(OUTCOME_UNKNOWN)),
        "duplicates": (_("Received more than once"), _has_event(EventKind.DUPLICATE)),
    }


class StatusFilter(QuestionFilter):
    title = _("status")
    parameter_name = "status"
    answers = {status.value: (status.label, Q(status=status)) for status in LeadStatus}


class ReasonFilter(QuestionFilter):
    title = _("rejection reason")
    parameter_name = "reason"
    answers = {reason.value: (reason.value, Q(rejection_reason=reason)) for reason in RejectionReason}


def _midnight(days_ago: int) -> datetime:
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


class ReceivedFilter(QuestionFilter):
    title = _("received")
    parameter_name = "received"
    answers = {
        "today": (_("Today"), lambda: Q(received_at__gte=_midnight(0))),
        "yesterday": (_("Yesterday"), lambda: Q(received_at__gte=_midnight(1), received_at__lt=_midnight(0))),
        "week": (_("Last 7 days"), lambda: Q(received_at__gte=_midnight(6))),
        "month": (_("Last 30 days"), lambda: Q(received_at__gte=_midnight(29))),
    }


# --- attempts --------------------------------------------------------------------------------------------------------


class OutcomeFilter(QuestionFilter):
    title = _("outcome")
    parameter_name = "outcome"
    answers = {
        "success": (_("Success"), Q(success=True)),
        "failed": (_("Failed"), Q(success=False) & ~OUTCOME_UNKNOWN),
        "unknown": (_("Outcome unknown"), OUTCOME_UNKNOWN),
    }


class AnswerClassFilter(QuestionFilter):
    title = _("the customer's answer")
    parameter_name = "answer"
    answers = {
        **{f"{n}xx": (f"HTTP {n}xx", Q(response_status__range=(100 * n, 100 * n + 99))) for n in range(1, 6)},
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
