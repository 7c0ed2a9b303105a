"""The delivery page: whether leads are sent to the customer, and the form that pauses or resumes delivery."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from delivery.configuration import circuit_policy, limits
from delivery.control import pause
from delivery.models import DeliveryControl
from leadgateway.time_format import span
from leads.models import EventKind, InboundLead, LeadEvent
from stats.admin import formatting
from stats.admin.banners import Banner
from stats.admin.bulk_action_form import ReasonField, may_act
from stats.masking import Masker
from stats.permissions import sees_personal_data
from stats.text import events
from stats.text.delivery_control import obstacle

_EVENTS = (
    EventKind.CIRCUIT_OPENED,
    EventKind.CIRCUIT_CLOSED,
    EventKind.DELIVERY_PAUSED,
    EventKind.DELIVERY_RESUMED,
)

_EVENTS_SHOWN = 20


class ReasonForm(forms.Form):
    """The reason for which delivery is paused or resumed."""

    reason = ReasonField()


def banner(request: HttpRequest, *, now: datetime) -> Banner | None:
    """Return the banner for other pages that says why no lead is sent; None when leads are sent."""
    control = DeliveryControl.objects.current()
    if not control.is_blocked:
        return None
    return Banner(
        what=_("Delivery paused") if control.paused_at is not None else _("Customer marked as down"),
        advice=_summary(control, request, now=now),
        url=reverse("admin:leads_delivery"),
        link=_("Delivery"),
    )


def view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show the page, or pause or resume delivery.

    :raises PermissionDenied: the user may not view leads, or not control delivery.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    if request.method != "POST":
        return _page(model_admin, request, ReasonForm())
    if not may_act(request):
        raise PermissionDenied
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return _page(model_admin, request, form)
    _pause_or_resume(request, form.cleaned_data["reason"])
    return redirect("admin:leads_delivery")


def _pause_or_resume(request: HttpRequest, reason: str) -> None:
    """Do what the pressed button said. Another user may have changed the state since the page was shown."""
    change: dict[str, Any] = {"actor": request.user.get_username(), "reason": reason, "now": timezone.now()}
    if request.POST.get("action") == "resume":
        if pause.resume_delivery(**change):
            messages.success(request, _("Delivery resumed. Waiting leads are sent automatically."))
        else:
            messages.info(request, _("Delivery was not paused. Nothing changed."))
    elif pause.pause_delivery(**change):
        messages.success(request, _("Delivery paused. Nothing is sent until it is resumed."))
    else:
        messages.info(request, _("Delivery was already paused. Nothing changed."))


def _page(model_admin: Any, request: HttpRequest, form: ReasonForm) -> TemplateResponse:
    now, control = timezone.now(), DeliveryControl.objects.current()
    recorded = LeadEvent.objects.filter(lead=None, kind__in=_EVENTS).order_by("-pk")[:_EVENTS_SHOWN]
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Delivery"),
        "badge": _badge(control),
        "summary": _summary(control, request, now=now),
        "facts": _facts(control, now=now),
        "events": [_event(event, request, now) for event in recorded],
        "is_paused": control.paused_at is not None,
        "may_act": may_act(request),
        "form": form,
    }
    return TemplateResponse(request, "stats/admin/delivery_control.html", context)


def _badge(control: DeliveryControl) -> str:
    if control.paused_at is not None:
        return formatting.badge(_("Paused"), "failed")
    if control.circuit_opened_at is not None:
        return formatting.badge(_("Customer down"), "permanently_failed")
    return formatting.badge(_("Active"), "delivered")


def _summary(control: DeliveryControl, request: HttpRequest, *, now: datetime) -> str:
    """Return whether leads are sent, and if not, why and how many wait."""
    reason = obstacle(control, now=now, show_time=formatting.exact_time)
    if reason is None:
        return _("Leads are sent to the customer.")
    number = InboundLead.objects.due(now).count()
    waiting = ngettext("{number} lead is waiting.", "{number} leads are waiting.", number)
    shown = formatting.escape_invisible(_masker(request).text(reason))
    return f"{shown} {waiting.format(number=formatting.number(number))}"


def _masker(request: HttpRequest) -> Masker:
    return Masker(is_on=not sees_personal_data(request.user))


def _facts(control: DeliveryControl, *, now: datetime) -> list[tuple[str, str]]:
    """Return the settings and the state of delivery control as labels and values."""
    policy, limit = circuit_policy(), limits()
    threshold = _("after {failures} consecutive failures of at least {leads} leads").format(
        failures=policy.failures, leads=policy.leads
    )
    return [
        (_("Failures since the last success"), formatting.number(control.failures)),
        (_("Customer is marked as down"), threshold if policy.failures else _("never")),
        (_("Next recovery check"), formatting.full_time(control.next_probe_at, now=now)),
        (_("Minimum time between requests"), span(limit.interval) if limit.interval else _("no limit")),
        (_("Maximum concurrent requests"), str(limit.concurrency) if limit.concurrency else _("no limit")),
    ]


def _event(event: LeadEvent, request: HttpRequest, now: datetime) -> dict[str, str]:
    return {
        "at": formatting.full_time(event.at, now=now),
        "title": events.event_title(event),
        "actor": event.actor,
        "detail": formatting.escape_invisible(events.detail_text(event, _masker(request))),
    }
