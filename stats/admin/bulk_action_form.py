"""The page on which something is ordered for leads: it shows what would happen and asks why, before anything does."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, override

from delivery.bulk_actions import creation, processing
from delivery.bulk_actions.creation import MAX_LEADS, BulkActionRequest
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.bulk_actions.processing import IMMEDIATE_MAX_LEADS
from delivery.bulk_actions.selection import eligibility
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leads import search
from leads.models import InboundLead, LeadStatus
from stats.admin import formatting
from stats.admin.filters import asked_for

#: Parameters of a list that say how it is shown, not what is in it.
_PRESENTATION = ("p", "o", "all", "e")

#: How many leads are named one by one.
_NAMED = 5


def may_act(request: HttpRequest) -> bool:
    """Tell whether the user may order anything."""
    return request.user.has_perm("leads.act_on_lead")


# --- from the list ---------------------------------------------------------------------------------------------------


@admin.action(description=gettext_lazy("Redeliver…"), permissions=["act"])
def redeliver(_admin: Any, request: HttpRequest, leads: QuerySet) -> HttpResponse:
    """Lead to the page on which the ticked leads are redelivered."""
    return _to_page(BulkActionKind.REDELIVER, request, leads)


@admin.action(description=gettext_lazy("Reprocess…"), permissions=["act"])
def reprocess(_admin: Any, request: HttpRequest, leads: QuerySet) -> HttpResponse:
    """Lead to the page on which the ticked leads are reprocessed."""
    return _to_page(BulkActionKind.REPROCESS, request, leads)


@admin.action(description=gettext_lazy("Mark as settled…"), permissions=["act"])
def resolve(_admin: Any, request: HttpRequest, leads: QuerySet) -> HttpResponse:
    """Lead to the page on which the ticked leads are marked as settled."""
    return _to_page(BulkActionKind.RESOLVE, request, leads)


#: What the list of leads offers to do.
ACTIONS = (redeliver, reprocess, resolve)


def _to_page(kind: BulkActionKind, request: HttpRequest, leads: QuerySet) -> HttpResponse:
    """Redirect to the page of an order: for the ticked leads, or for all that the list was asked for."""
    query = QueryDict(mutable=True)
    if request.POST.get("select_across") == "1":
        query = request.GET.copy()
        for name in _PRESENTATION:
            query.pop(name, None)
    else:
        query["ids"] = ",".join(map(str, sorted(leads.values_list("pk", flat=True))))
    return redirect(f"{reverse('admin:leads_order', args=[kind.value])}?{query.urlencode(safe=',')}")


# --- which leads -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """Leads that somebody has chosen; `url` shows them."""

    leads: QuerySet
    describe: Callable[[], str]
    url: str

    @property
    def in_words(self) -> str:
        """Return how they were chosen, in the reader's language and without personal data."""
        return self.describe()


def selected(model_admin: Any, request: HttpRequest) -> Selection:
    """Return the leads that the query string names: by `ids`, or by what the list of leads can be asked.

    :raises IncorrectLookupParameters: the list cannot be asked that.
    """
    if "ids" in request.GET:
        return _by_ids(request.GET["ids"])
    changelist = model_admin.get_changelist_instance(request)
    if changelist.problems:
        raise IncorrectLookupParameters
    url = f"{reverse('admin:leads_inboundlead_changelist')}?{request.GET.urlencode()}"
    return Selection(changelist.queryset, partial(asked_for, changelist), url)


def _by_ids(text: str) -> Selection:
    ids = sorted({number for part in text.split(",") if (number := search.lead_id(part)) is not None})
    if len(ids) == 1:
        url = reverse("admin:leads_inboundlead_change", args=ids)
    else:
        url = reverse("admin:leads_inboundlead_changelist")
    return Selection(InboundLead.objects.filter(pk__in=ids), partial(_ids_in_words, ids), url)


def _ids_in_words(ids: list[int]) -> str:
    if len(ids) > _NAMED:
        return _("{n} leads, chosen one by one").format(n=_number(len(ids)))
    return ngettext("lead {ids}", "leads {ids}", len(ids)).format(ids=", ".join(map(str, ids)))


# --- what would happen -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What would happen to the chosen leads of one status."""

    status: str
    chosen: int
    touched: int

    @property
    def left_alone(self) -> int:
        """Return how many leads the order would not touch."""
        return self.chosen - self.touched


@dataclass(frozen=True)
class Plan:
    """What an order would do: to so many leads, and to so many more if it is for delivered ones too."""

    lines: list[Line]
    touched: int
    delivered: int

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to be ordered."""
        return not self.touched and not self.delivered

    @property
    def is_too_large(self) -> bool:
        """Tell whether one order may not be for so many."""
        return self.touched > MAX_LEADS


def plan(kind: BulkActionKind, leads: QuerySet) -> Plan:
    """Count what an order would do to the leads, by one query."""
    counted = {
        row["status"]: row
        for row in leads.order_by()
        .values("status")
        .annotate(
            chosen=Count("pk"),
            touched=Count("pk", filter=eligibility(kind)),
            with_delivered=Count("pk", filter=eligibility(kind, include_delivered=True)),
        )
    }
    rows = [counted[status] for status in LeadStatus.values if status in counted]
    lines = [Line(row["status"], row["chosen"], row["touched"]) for row in rows]
    touched = sum(row["touched"] for row in rows)
    return Plan(lines, touched, sum(row["with_delivered"] for row in rows) - touched)


def _left_alone(kind: BulkActionKind, line: Line) -> str:
    """Return how many leads of a status are left alone, and why."""
    return _("{n} left alone: {why}").format(n=_number(line.left_alone), why=_why_not(kind, line.status))


def _why_not(kind: BulkActionKind, status: str) -> str:
    """Return why an order leaves leads of a status alone."""
    if status in (LeadStatus.RECEIVED, LeadStatus.READY):
        return _("under way already")
    if kind == BulkActionKind.RESOLVE:
        return _settled_why_not(status)
    if status == LeadStatus.DELIVERED:
        return _("the customer has them already")
    if status == LeadStatus.REJECTED:
        return _("they were never made ready for the customer: reprocess them")
    return _("what the customer requires is missing: reprocess them")


def _settled_why_not(status: str) -> str:
    if status == LeadStatus.FAILED:
        return _("tried again by themselves, or settled already")
    return _("settled already") if status == LeadStatus.PERMANENTLY_FAILED else _("they need no attention")


# --- in words --------------------------------------------------------------------------------------------------------


def _number(number: int) -> str:
    return number_format(number, force_grouping=True)


def _row(kind: BulkActionKind, line: Line) -> dict[str, Any]:
    """Return a line as it is shown."""
    return {
        "badge": formatting.status_badge(line.status),
        "chosen": _number(line.chosen),
        "touched": _number(line.touched),
        "left_alone": _left_alone(kind, line) if line.left_alone else "",
    }


def _effect(kind: BulkActionKind) -> str:
    return {
        BulkActionKind.REDELIVER: _(
            "Each lead is sent to the customer once more, as it was mapped, and tried again if that fails. "
            "The customer recognises it by the same Idempotency-Key."
        ),
        BulkActionKind.REPROCESS: _(
            "Each lead starts over from what was received: rules, normalization, mapping, delivery. "
            "For leads that a changed rule or mapping file treats differently."
        ),
        BulkActionKind.RESOLVE: _(
            "Each lead leaves the list of those that need attention. Nothing is sent to anybody."
        ),
    }[kind]


def button(kind: BulkActionKind, number: int) -> str:
    """Return what is ordered, for how many leads."""
    texts = {
        BulkActionKind.REDELIVER: ngettext("Redeliver {n} lead", "Redeliver {n} leads", number),
        BulkActionKind.REPROCESS: ngettext("Reprocess {n} lead", "Reprocess {n} leads", number),
        BulkActionKind.RESOLVE: ngettext("Mark {n} lead as settled", "Mark {n} leads as settled", number),
    }
    return texts[kind].format(n=_number(number))


def _even_delivered(number: int) -> str:
    text = ngettext(
        "Yes, also {n} lead that was delivered: the customer gets this person a second time.",
        "Yes, also {n} leads that were delivered: the customer gets these people a second time.",
        number,
    )
    return text.format(n=_number(number))


def _pace(number: int) -> str:
    """Return what the operator will see happen."""
    if number <= IMMEDIATE_MAX_LEADS:
        return _("It is done at once. Every step is written to the trail, with your name and the reason.")
    text = _("It is done in the background, {rate} leads per second, and can be cancelled on the way.")
    return text.format(rate=_number(settings.BULK_ACTION_RATE))


def _done(kind: str, lead_id: int) -> str:
    texts = {
        BulkActionKind.REDELIVER: _("Lead {id} goes to the customer again."),
        BulkActionKind.REPROCESS: _("Lead {id} starts over from what was received."),
        BulkActionKind.RESOLVE: _("Lead {id} is settled."),
    }
    return texts[BulkActionKind(kind)].format(id=lead_id)


# --- the page --------------------------------------------------------------------------------------------------------


class ReasonField(forms.CharField):
    """Why somebody orders something; it is required, and kept."""

    def __init__(self, *, help_text: Any) -> None:
        super().__init__(
            label=gettext_lazy("Reason"),
            max_length=500,
            widget=forms.Textarea(attrs={"rows": 3, "class": "gateway-field", "aria-describedby": "reason-help"}),
            help_text=help_text,
        )


class BulkActionForm(forms.Form):
    """Why, and what was seen when it was sent."""

    reason = ReasonField(
        help_text=gettext_lazy("It stays in the trail of each lead. No names, addresses or phone numbers.")
    )
    include_delivered = forms.BooleanField(required=False)
    expected = forms.IntegerField(min_value=0)
    expected_delivered = forms.IntegerField(min_value=0)
    form_token = forms.UUIDField()

    @property
    def was_tampered_with(self) -> bool:
        """Tell whether something is wrong that nobody has typed."""
        return any(name in self.errors for name in ("expected", "expected_delivered", "form_token"))

    @property
    def token(self) -> uuid.UUID:
        """Return the token that the form was sent with; a new one for a new form."""
        return getattr(self, "cleaned_data", {}).get("form_token") or uuid.uuid4()


def bulk_action_urls(model_admin: Any) -> list[URLPattern]:
    """Return the page's address, which goes before those of the leads."""

    def view(request: HttpRequest, kind: str) -> HttpResponse:
        return _view(model_admin, request, kind)

    return [path("order/<str:kind>/", model_admin.admin_site.admin_view(view), name="leads_order")]


def _view(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    if not (may_act(request) and model_admin.has_view_permission(request)):
        raise PermissionDenied
    if name not in BulkActionKind:
        raise Http404
    try:
        selection = selected(model_admin, request)
    except IncorrectLookupParameters:
        return _back_to_the_list(request)
    return _answer(model_admin, request, BulkActionKind(name), selection)


def _back_to_the_list(request: HttpRequest) -> HttpResponse:
    messages.error(request, _("The list cannot be asked that, so nothing was ordered."))
    return redirect("admin:leads_inboundlead_changelist")


def _answer(model_admin: Any, request: HttpRequest, kind: BulkActionKind, selection: Selection) -> HttpResponse:
    """Show the page; or carry out what was confirmed on it."""
    if request.method != "POST":
        return _page(model_admin, request, kind, selection, BulkActionForm())
    form = BulkActionForm(request.POST)
    if form.is_valid() and (order := _place(request, kind, selection, form)):
        return _afterwards(request, order)
    return _page(model_admin, request, kind, selection, form)


def _place(request: HttpRequest, kind: BulkActionKind, selection: Selection, form: BulkActionForm) -> BulkAction | None:
    """Place the order, and carry a small one out; None with an error in the form when it was not placed."""
    seen = form.cleaned_data
    most = seen["expected"] + (seen["expected_delivered"] if seen["include_delivered"] else 0)
    try:
        order = creation.create(
            _placement(request, kind, selection, form), selection.leads, now=timezone.now(), max_leads=most
        )
    except creation.AlreadyCreated as error:
        messages.info(request, _("This form was sent before; nothing was ordered a second time."))
        return error.bulk_action
    except creation.NoLeads:
        form.add_error(None, _("There is no lead that this could be done to. Nothing was ordered."))
        return None
    except creation.TooManyLeads:
        form.add_error(None, _too_many(most))
        return None
    if order.total <= IMMEDIATE_MAX_LEADS:
        processing.process_one(order.pk, now=timezone.now(), max_leads=IMMEDIATE_MAX_LEADS)
    return order


def _placement(
    request: HttpRequest, kind: BulkActionKind, selection: Selection, form: BulkActionForm
) -> BulkActionRequest:
    with override("en"):
        in_words = selection.in_words  # for the trail, whoever reads it
    return BulkActionRequest(
        kind=kind,
        actor=request.user.get_username(),
        reason=form.cleaned_data["reason"],
        selection=in_words,
        include_delivered=kind == BulkActionKind.REDELIVER and form.cleaned_data["include_delivered"],
        form_token=form.cleaned_data["form_token"],
    )


def _too_many(most: int) -> str:
    if most > MAX_LEADS:
        return _upper_bound()
    return _("There are more leads now than you were shown. Look at the numbers again; nothing was ordered.")


def _upper_bound() -> str:
    return _("One order may be for {n} leads at most. Nothing was ordered.").format(n=_number(MAX_LEADS))


def _afterwards(request: HttpRequest, order: BulkAction) -> HttpResponseRedirect:
    """Go to where the outcome is to be seen: the lead, when it was one; otherwise the order."""
    if order.total != 1:
        return redirect("admin:delivery_bulkaction_change", order.pk)
    item = order.items.get()
    _tell_outcome(request, order, item)
    return redirect("admin:leads_inboundlead_change", item.lead_id)


def _tell_outcome(request: HttpRequest, order: BulkAction, item: BulkActionItem) -> None:
    if item.outcome == BulkActionItem.Outcome.DONE:
        messages.success(request, _done(order.kind, item.lead_id))
    elif item.outcome == BulkActionItem.Outcome.SKIPPED:
        messages.error(request, f"{SkipReason(str(item.skip_reason)).describe(item.lead_id)}.")
    else:
        messages.info(request, _("It is ordered and will be done in a moment."))


def _page(
    model_admin: Any, request: HttpRequest, kind: BulkActionKind, selection: Selection, form: BulkActionForm
) -> TemplateResponse:
    planned = plan(kind, selection.leads)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": kind.label,
        "effect": _effect(kind),
        "selection": selection,
        "plan": planned,
        "rows": [_row(kind, line) for line in planned.lines],
        "button": button(kind, planned.touched),
        "button_with_delivered": button(kind, planned.touched + planned.delivered),
        "include_delivered": _even_delivered(planned.delivered),
        "upper_bound": _upper_bound(),
        "pace": _pace(planned.touched + planned.delivered),
        "form": form,
    }
    return TemplateResponse(request, "stats/admin/bulk_action_form.html", context)
