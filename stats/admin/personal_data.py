"""Who sees e-mail addresses and phone numbers: users with the permission, and others for one lead at a time on request.

A request is recorded in the lead's audit log first. It is kept in the session and ends with it.
"""

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, QuerySet, Value
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from leads.audit.recording import record
from leads.models import EventKind, InboundLead
from stats.masking import Masker
from stats.permissions import sees_personal_data

#: How long the personal data of a lead stays visible after a request.
REVEALED_FOR = timedelta(minutes=10)

#: Key in the session: lead id as text (JSON has no other keys) -> end of the visibility in seconds since 1970.
_SESSION_KEY = "revealed_leads"


class MaskedRecords:
    """Annotates each record of a page with `is_masked`: whether the user may not see personal data."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Return the annotated records."""
        masked = Value(not sees_personal_data(request.user), output_field=BooleanField())
        return super().get_queryset(request).annotate(is_masked=masked)  # type: ignore[misc]


def masker_of(record: Any) -> Masker:
    """Return the masker for a record of MaskedRecords."""
    return Masker(is_on=record.is_masked)


def may_reveal(request: HttpRequest) -> bool:
    """Return whether the user sees masked leads and may reveal one."""
    return request.user.has_perm("leads.reveal_personal_data") and not sees_personal_data(request.user)


def revealed_until(request: HttpRequest, lead_id: int, *, now: datetime) -> datetime | None:
    """Return until when the lead's personal data is visible in this session; None when it is masked."""
    until = _revealed(request, now).get(str(lead_id))
    return None if until is None else datetime.fromtimestamp(until, tz=now.tzinfo)


def reveal(model_admin: Any, request: HttpRequest, lead_id: int) -> HttpResponse:
    """Record that the user wants to see the lead's personal data, and show it for a while.

    :raises PermissionDenied: the user may not reveal personal data.
    :raises Http404: the lead does not exist.
    """
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
    """Return the leads whose personal data is visible in this session, without those that have expired."""
    kept: dict[str, float] = request.session.get(_SESSION_KEY, {})
    return {lead_id: until for lead_id, until in kept.items() if until > now.timestamp()}
