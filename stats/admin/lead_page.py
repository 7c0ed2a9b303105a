"""The page of one lead: where it stands, what happened to it, and what was made of it."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from leads.models import InboundLead


def show(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """Answer with the page of the lead.

    :raises Http404: there is no such lead.
    """
    lead = InboundLead.objects.filter(pk=int(object_id)).first()
    if lead is None:
        raise Http404
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": _("Lead {id}").format(id=lead.pk),
        "lead": lead,
    }
    return TemplateResponse(request, "stats/admin/lead.html", context)
