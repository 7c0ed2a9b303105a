"""The page of the way out: whether leads may go to the customer, what keeps them, and the switch that holds them."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from delivery.configuration import circuit_policy, limits
from delivery.control import pause
from delivery.models import DeliveryControl
from leadgateway.time_format import span
from leads.models import EventKind, InboundLead, LeadEvent
from stats.admin import formatting
from stats.admin.banners import Banner
from stats.admin.bulk_action_form import ReasonField, may_act
from stats.masking import Cover
from stats.permissions import sees_personal_data
from stats.text import events
from stats.text.delivery_control import obstacle

#: What has happened to the way out, as far as the trail tells it.
KINDS = (
    EventKind.CIRCUIT_OPENED,
    EventKind.CIRCUIT_CLOSED,
    EventKind.DELIVERY_PAUSED,
    EventKind.DELIVERY_RESUMED,
)

_LATEST = 20


class ReasonForm(forms.Form):
    """Why delivery is held or resumed."""

    reason = ReasonField(help_text=gettext_lazy("It stays in the trail. No names, addresses or phone numbers."))


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the page's address, which goes before those of the leads."""

    def view(request: HttpRequest) -> HttpResponse:
        if not model_admin.has_view_permission(request):
            raise PermissionDenied
        return _answer(model_admin, request)

    return [path("way-out/", model_admin.admin_site.admin_view(view), name="leads_way_out")]


def _answer(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show the page; or hold or resume delivery, for a reason."""
    if request.method != "POST":
        return _page(model_admin, request, ReasonForm())
    if not may_act(request):
        raise PermissionDenied
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return _page(model_admin, request, form)
    _switch(request, form.cleaned_data["reason"])
    return redirect("admin:leads_way_out")


def _switch(request: HttpRequest, reason: str) -> None:
    """Do what the button said, not the opposite of how things stand by now: somebody else may have been faster."""
    how: dict[str, Any] = {"actor": request.user.get_username(), "reason": reason, "now": timezone.now()}
    if request.POST.get("switch") == "resume":
        if pause.resume_delivery(**how):
            messages.success(request, _("Delivery goes on. What waited goes out by itself."))
        else:
            messages.info(request, _("Delivery was not held. Nothing was changed."))
    elif pause.pause_delivery(**how):
        messages.success(request, _("Delivery is held: nothing is sent until somebody resumes it."))
    else:
        messages.info(request, _("Delivery is held already. Nothing was changed."))


def _page(model_admin: Any, request: HttpRequest, form: ReasonForm) -> TemplateResponse:
    now, way_out = timezone.now(), DeliveryControl.objects.current()
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Way out"),
        "badge": _badge(way_out),
        "sentence": sentence(way_out, _cover(request), now=now),
        "facts": _facts(way_out, now=now),
        "events": [_event(event, request, now) for event in _events()],
        "is_held": way_out.paused_at is not None,
        "may_act": may_act(request),
        "form": form,
    }
    return TemplateResponse(request, "stats/admin/delivery_control.html", context)


def _badge(way_out: DeliveryControl) -> str:
    if way_out.paused_at is not None:
        return formatting.badge(_("held"), "failed")
    if way_out.circuit_opened_at is not None:
        return formatting.badge(_("customer down"), "permanently_failed")
    return formatting.badge(_("open"), "delivered")


def banner(request: HttpRequest, *, now: datetime) -> Banner | None:
    """Return for other pages what keeps all leads; None when they go out."""
    way_out = DeliveryControl.objects.current()
    if not way_out.is_blocked:
        return None
    return Banner(
        what=_("Delivery is held") if way_out.paused_at is not None else _("The customer is down"),
        advice=sentence(way_out, _cover(request), now=now),
        url=reverse("admin:leads_way_out"),
        link=_("Way out"),
    )


def _cover(request: HttpRequest) -> Cover:
    return Cover(is_on=not sees_personal_data(request.user))


def sentence(way_out: DeliveryControl, cover: Cover, *, now: datetime) -> str:
    """Return whether leads go out, and otherwise why not, as far as it may be seen, and how many wait."""
    why = obstacle(way_out, now=now, show_time=formatting.exact)
    if why is None:
        return _("Leads go out to the customer.")
    number = InboundLead.objects.due(now).count()
    waiting = ngettext("{number} lead waits.", "{number} leads wait.", number)
    told = formatting.visible(cover.text(why))
    return f"{told} {waiting.format(number=number_format(number, force_grouping=True))}"


def _facts(way_out: DeliveryControl, *, now: datetime) -> list[tuple[str, str]]:
    """Return what was set and how things stand, each with its name."""
    policy, most = circuit_policy(), limits()
    taken_for_down = _("after {failures} failures in a row, of {leads} leads or more").format(
        failures=policy.failures, leads=policy.leads
    )
    return [
        (_("Failures since the customer's last success"), number_format(way_out.failures, force_grouping=True)),
        (_("The customer is taken for down"), taken_for_down if policy.failures else _("never")),
        (_("Next try whether it is back"), formatting.moment(way_out.next_probe_at, now=now)),
        (_("Shortest time between two requests"), span(most.interval) if most.interval else _("no limit")),
        (_("Requests at a time"), str(most.concurrency) if most.concurrency else _("no limit")),
    ]


def _events() -> list[LeadEvent]:
    return list(LeadEvent.objects.filter(lead=None, kind__in=KINDS).order_by("-pk")[:_LATEST])


def _event(event: LeadEvent, request: HttpRequest, now: datetime) -> dict[str, str]:
    return {
        "at": formatting.moment(event.at, now=now),
        "what": events.what_happened(event),
        "who": event.actor,
        "detail": formatting.visible(events.detail_in_words(event, _cover(request))),
    }
