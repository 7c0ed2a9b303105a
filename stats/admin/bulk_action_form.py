"""The page that previews a bulk action, asks for the reason and creates it on confirmation."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
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
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from delivery.bulk_actions import creation, processing
from delivery.bulk_actions.creation import MAX_LEADS, BulkActionRequest
from delivery.bulk_actions.lead_actions import SkipReason
from delivery.bulk_actions.processing import IMMEDIATE_MAX_LEADS
from delivery.bulk_actions.selection import eligibility
from delivery.models import BulkAction, BulkActionItem, BulkActionKind
from leads import search
from leads.models import InboundLead, LeadStatus
from stats.admin import filters, formatting
from stats.admin.formatting import number
from stats.text.filters import selection_of_ids, selection_text

#: Query parameters of a list that do not filter it.
_PRESENTATION = ("p", "o", "all", "e")


def may_act(request: HttpRequest) -> bool:
    """Return whether the user may run bulk actions."""
    return request.user.has_perm("leads.act_on_lead")


# --- actions of the list ---------------------------------------------------------------------------------------------


def _action(kind: BulkActionKind, label: Any) -> Callable[[Any, HttpRequest, QuerySet], HttpResponse]:
    """Return an action of the list that opens the preview for the selected leads."""

    @admin.action(description=label, permissions=["act"])
    def open_preview(_admin: Any, request: HttpRequest, leads: QuerySet) -> HttpResponse:
        return _open_preview(kind, request, leads)

    open_preview.__name__ = kind.value
    return open_preview


#: The actions of the list of leads.
ACTIONS = (
    _action(BulkActionKind.REDELIVER, gettext_lazy("Redeliver…")),
    _action(BulkActionKind.REPROCESS, gettext_lazy("Reprocess…")),
    _action(BulkActionKind.RESOLVE, gettext_lazy("Resolve…")),
)


def _open_preview(kind: BulkActionKind, request: HttpRequest, leads: QuerySet) -> HttpResponse:
    """Redirect to the preview for the selected leads, or for all leads of the list."""
    query = QueryDict(mutable=True)
    if request.POST.get("select_across") == "1":
        query = request.GET.copy()
        for name in _PRESENTATION:
            query.pop(name, None)
    else:
        query["ids"] = ",".join(map(str, sorted(leads.values_list("pk", flat=True))))
    return redirect(f"{preview_url(kind)}?{query.urlencode(safe=',')}")


def preview_url(kind: str) -> str:
    """Return the URL of the preview for a kind of bulk action, without a selection."""
    return reverse("admin:leads_bulk_action", args=[kind])


# --- the selected leads ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """The selected leads.

    :param stored: how they were selected, without personal data; see stats.text.filters.
    :param url: the page that shows them.
    """

    leads: QuerySet
    stored: str
    url: str


def selected(model_admin: Any, request: HttpRequest) -> Selection:
    """Return the leads that the query string selects: by `ids`, or by the parameters of the list.

    :raises IncorrectLookupParameters: the list does not accept the parameters.
    """
    if "ids" in request.GET:
        return _by_ids(request.GET["ids"])
    changelist = model_admin.get_changelist_instance(request)
    if changelist.problems:
        raise IncorrectLookupParameters
    url = f"{reverse('admin:leads_inboundlead_changelist')}?{request.GET.urlencode()}"
    return Selection(changelist.queryset, filters.selection(changelist), url)


def _by_ids(text: str) -> Selection:
    ids = sorted({lead_id for part in text.split(",") if (lead_id := search.lead_id(part)) is not None})
    if len(ids) == 1:
        url = reverse("admin:leads_inboundlead_change", args=ids)
    else:
        url = reverse("admin:leads_inboundlead_changelist")
    return Selection(InboundLead.objects.filter(pk__in=ids), selection_of_ids(ids), url)


# --- the preview -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preview:
    """The effect of a bulk action.

    :param rows: the number of selected leads of each status, and how many of them it changes.
    :param affected: the number of leads that it changes.
    :param delivered: the number of delivered leads that it changes in addition on request.
    """

    rows: list[tuple[str, int, int]]
    affected: int
    delivered: int

    @property
    def is_empty(self) -> bool:
        """Return whether no selected lead is eligible."""
        return not self.affected and not self.delivered

    @property
    def is_too_large(self) -> bool:
        """Return whether more leads are eligible than one bulk action may change."""
        return self.affected > MAX_LEADS


def preview(kind: BulkActionKind, leads: QuerySet) -> Preview:
    """Count the effect of a bulk action on the leads in one query."""
    counted = (
        leads.order_by()
        .values_list("status")
        .annotate(
            selected=Count("pk"),
            affected=Count("pk", filter=eligibility(kind)),
            with_delivered=Count("pk", filter=eligibility(kind, include_delivered=True)),
        )
    )
    rows = sorted(counted, key=lambda row: LeadStatus.values.index(row[0]))
    affected = sum(row[2] for row in rows)
    return Preview([row[:3] for row in rows], affected, sum(row[3] for row in rows) - affected)


def _row(kind: BulkActionKind, status: str, selected: int, affected: int) -> dict[str, Any]:
    skipped = selected - affected
    text = _("{number} skipped: {reason}").format(number=number(skipped), reason=_skip_reason(kind, status))
    return {
        "badge": formatting.status_badge(status),
        "selected": number(selected),
        "affected": number(affected),
        "skipped": text if skipped else "",
    }


def _skip_reason(kind: BulkActionKind, status: str) -> str:
    """Return why a bulk action skips leads of a status."""
    match kind, status:
        case _, LeadStatus.RECEIVED | LeadStatus.READY:
            return _("already in progress")
        case BulkActionKind.RESOLVE, LeadStatus.FAILED:
            return _("waiting for a retry, or already resolved")
        case BulkActionKind.RESOLVE, LeadStatus.PERMANENTLY_FAILED:
            return _("already resolved")
        case BulkActionKind.RESOLVE, _:
            return _("no attention needed")
        case _, LeadStatus.DELIVERED:
            return _("already delivered")
        case _, LeadStatus.REJECTED:
            return _("never mapped for the customer; reprocess them instead")
    return _("a required field is missing; reprocess them instead")


# --- texts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KindTexts:
    """The texts of one kind of bulk action."""

    title: Any
    description: Any
    #: The label of the button that confirms it for `count` leads.
    button: Any
    #: The message after it was done for a single lead.
    success: Any


_TEXTS = {
    BulkActionKind.REDELIVER: KindTexts(
        gettext_lazy("Redeliver leads: preview"),
        gettext_lazy(
            "Sends each lead to the customer again with the payload from the last mapping, and retries if that fails. "
            "The Idempotency-Key stays the same, so the customer can recognise the lead."
        ),
        ngettext_lazy("Redeliver {number} lead", "Redeliver {number} leads", "count"),
        gettext_lazy("Lead {id} will be sent to the customer again."),
    ),
    BulkActionKind.REPROCESS: KindTexts(
        gettext_lazy("Reprocess leads: preview"),
        gettext_lazy(
            "Starts each lead again from the received payload: validation, normalization, mapping, delivery. "
            "Use this after a rule or the mapping file has changed."
        ),
        ngettext_lazy("Reprocess {number} lead", "Reprocess {number} leads", "count"),
        gettext_lazy("Lead {id} will be processed again from the received payload."),
    ),
    BulkActionKind.RESOLVE: KindTexts(
        gettext_lazy("Resolve leads: preview"),
        gettext_lazy("Removes each lead from “Needs attention”. Nothing is sent."),
        ngettext_lazy("Resolve {number} lead", "Resolve {number} leads", "count"),
        gettext_lazy("Lead {id} resolved."),
    ),
}


def _include_delivered(count: int) -> str:
    text = ngettext(
        "Also resend {number} delivered lead. The customer will receive it twice.",
        "Also resend {number} delivered leads. The customer will receive them twice.",
        count,
    )
    return text.format(number=number(count))


def _duration(count: int) -> str:
    """Return how long the bulk action will take."""
    if count <= IMMEDIATE_MAX_LEADS:
        return _("Runs immediately. Your name and the reason are saved to the audit log.")
    text = _("Runs in the background at {rate} leads per second. You can cancel it at any time.")
    return text.format(rate=number(settings.BULK_ACTION_RATE))


def _too_many() -> str:
    return _("A bulk action can change at most {number} leads. Nothing changed.").format(number=number(MAX_LEADS))


# --- the form --------------------------------------------------------------------------------------------------------


class ReasonField(forms.CharField):
    """The required reason for an action, which is saved to the audit log."""

    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Reason"),
            max_length=500,
            widget=forms.Textarea(attrs={"rows": 3, "class": "gateway-field", "aria-describedby": "reason-help"}),
            help_text=gettext_lazy("Saved to the audit log. Don't include personal data."),
        )


class BulkActionForm(forms.Form):
    """The reason, and the numbers that the user saw when confirming."""

    reason = ReasonField()
    include_delivered = forms.BooleanField(required=False)
    expected = forms.IntegerField(min_value=0)
    expected_delivered = forms.IntegerField(min_value=0)
    form_token = forms.UUIDField()

    @property
    def has_invalid_hidden_fields(self) -> bool:
        """Return whether a hidden field is missing or invalid."""
        return any(name in self.errors for name in ("expected", "expected_delivered", "form_token"))

    @property
    def token(self) -> uuid.UUID:
        """Return the token of the submitted form, or a new one for a new form."""
        return getattr(self, "cleaned_data", {}).get("form_token") or uuid.uuid4()

    @property
    def max_leads(self) -> int:
        """Return the number of leads that the user agreed to change."""
        data = self.cleaned_data
        return int(data["expected"] + (data["expected_delivered"] if data["include_delivered"] else 0))


# --- the page --------------------------------------------------------------------------------------------------------


def bulk_action_view(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    """Show the page, or create the bulk action that was confirmed on it."""
    if not (may_act(request) and model_admin.has_view_permission(request)):
        raise PermissionDenied
    if name not in BulkActionKind:
        raise Http404
    kind = BulkActionKind(name)
    try:
        selection = selected(model_admin, request)
    except IncorrectLookupParameters:
        messages.error(request, _("Invalid filter. Nothing changed."))
        return redirect("admin:leads_inboundlead_changelist")
    if request.method != "POST":
        return _page(model_admin, request, kind, selection, BulkActionForm())
    form = BulkActionForm(request.POST)
    if form.is_valid() and (bulk_action := _create(request, kind, selection, form)):
        return _redirect_to_result(request, bulk_action)
    return _page(model_admin, request, kind, selection, form)


def _create(
    request: HttpRequest, kind: BulkActionKind, selection: Selection, form: BulkActionForm
) -> BulkAction | None:
    """Create the bulk action and process it if it is small; None with an error in the form if that is impossible."""
    wanted = BulkActionRequest(
        kind=kind,
        actor=request.user.get_username(),
        reason=form.cleaned_data["reason"],
        selection=selection.stored,
        include_delivered=kind == BulkActionKind.REDELIVER and form.cleaned_data["include_delivered"],
        form_token=form.cleaned_data["form_token"],
    )
    try:
        bulk_action = creation.create(wanted, selection.leads, now=timezone.now(), max_leads=form.max_leads)
    except creation.AlreadyCreated as error:
        messages.info(request, _("You already submitted this form. Nothing changed."))
        return error.bulk_action
    except creation.NoLeads:
        form.add_error(None, _("None of these leads can be changed this way. Nothing changed."))
        return None
    except creation.TooManyLeads:
        is_over_limit = form.max_leads > MAX_LEADS
        more = _("There are more leads now than the page showed. Check the numbers again. Nothing changed.")
        form.add_error(None, _too_many() if is_over_limit else more)
        return None
    if bulk_action.total <= IMMEDIATE_MAX_LEADS:
        processing.process_one(bulk_action.pk, now=timezone.now(), max_leads=IMMEDIATE_MAX_LEADS)
    return bulk_action


def _redirect_to_result(request: HttpRequest, bulk_action: BulkAction) -> HttpResponseRedirect:
    """Redirect to the lead if it is a single one, otherwise to the bulk action."""
    if bulk_action.total != 1:
        return redirect("admin:delivery_bulkaction_change", bulk_action.pk)
    item = bulk_action.items.get()
    if item.outcome == BulkActionItem.Outcome.DONE:
        success = _TEXTS[BulkActionKind(bulk_action.kind)].success
        messages.success(request, success.format(id=item.lead_id))
    elif item.outcome == BulkActionItem.Outcome.SKIPPED:
        messages.error(request, f"{SkipReason(str(item.skip_reason)).describe(item.lead_id)}.")
    else:
        messages.info(request, _("The lead will be processed in a moment."))
    return redirect("admin:leads_inboundlead_change", item.lead_id)


def _page(
    model_admin: Any, request: HttpRequest, kind: BulkActionKind, selection: Selection, form: BulkActionForm
) -> TemplateResponse:
    counts, texts = preview(kind, selection.leads), _TEXTS[kind]
    total = counts.affected + counts.delivered
    context = {
        **model_admin.admin_site.each_context(request),
        "title": kind.label,
        "texts": texts,
        "selection": selection,
        "selection_text": selection_text(selection.stored),
        "preview": counts,
        "rows": [_row(kind, *row) for row in counts.rows],
        "button": texts.button.format(count=counts.affected, number=number(counts.affected)),
        "button_with_delivered": texts.button.format(count=total, number=number(total)),
        "include_delivered": _include_delivered(counts.delivered),
        "too_many": _too_many(),
        "duration": _duration(total),
        "form": form,
    }
    return TemplateResponse(request, "stats/admin/bulk_action_form.html", context)
