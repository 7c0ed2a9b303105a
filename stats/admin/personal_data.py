"""Who sees e-mail addresses and phone numbers: by permission always, or of one lead for a while after asking to.

Asking is written to the lead's trail first. What was asked for is kept in the session, so that it ends with it.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, QuerySet, Value
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone

from leads.audit.recording import record
from leads.models import EventKind, InboundLead
from stats.masking import Cover
from stats.permissions import sees_personal_data

#: How long a lead stays uncovered for whoever asked.
REVEALED_FOR = timedelta(minutes=10)

#: In the session: lead id -> until when, in seconds of the epoch. JSON has texts for keys only.
_SESSION_KEY = "revealed_leads"


class MaskedRecords:
    """Gives each record of a page its `cover`: what whoever looks may see of it."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the records, each knowing whether it is masked."""
        masked = Value(not sees_personal_data(request.user), output_field=BooleanField())
        return super().get_queryset(request).annotate(is_masked=masked)  # type: ignore[misc]


def cover_of(record: Any) -> Cover:
    """Return what may be seen of a record of MaskedRecords."""
    return Cover(is_on=record.is_masked)


def may_reveal(request: HttpRequest) -> bool:
    """Tell whether the user may have a lead uncovered that is covered for them."""
    return request.user.has_perm("leads.reveal_personal_data") and not sees_personal_data(request.user)


def revealed_until(request: HttpRequest, lead_id: int, *, now: datetime) -> datetime | None:
    """Return until when the lead is uncovered in this session; None when it is not."""
    until = _revealed(request, now).get(str(lead_id))
    return None if until is None else datetime.fromtimestamp(until, tz=now.tzinfo)


def reveal(model_admin: Any, request: HttpRequest, lead_id: int) -> HttpResponse:
    """Write to the trail who wants to see the lead's personal data, and show it to them for a while.

    :raises PermissionDenied: it is not theirs to ask for.
    :raises Http404: there is no such lead.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not (model_admin.has_view_permission(request) and request.user.has_perm("leads.reveal_personal_data")):
        raise PermissionDenied
    lead = InboundLead.objects.only("id", "correlation_id").filter(pk=lead_id).first()
    if lead is None:
        raise Http404
    now = timezone.now()
    minutes = REVEALED_FOR // timedelta(minutes=1)
    record(lead, EventKind.REVEALED, actor=request.user.get_username(), now=now, detail={"minutes": minutes})
    request.session[_SESSION_KEY] = _revealed(request, now) | {str(lead.pk): (now + REVEALED_FOR).timestamp()}
    return redirect("admin:leads_inboundlead_change", lead.pk)


def _revealed(request: HttpRequest, now: datetime) -> dict[str, float]:
    """Return what is uncovered in this session, without what is over."""
    kept: dict[str, float] = request.session.get(_SESSION_KEY, {})
    return {lead_id: until for lead_id, until in kept.items() if until > now.timestamp()}


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of `reveal`, for the URLs of the leads."""
    view = partial(reveal, model_admin)
    return [path("<int:lead_id>/reveal/", model_admin.admin_site.admin_view(view), name="leads_reveal")]
