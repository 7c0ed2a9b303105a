"""Clients of the admin by role, and the text of its pages."""

import html
import re
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

LEADS = "/admin/leads/inboundlead/"
ATTEMPTS = "/admin/delivery/deliveryattempt/"
EVENTS = "/admin/leads/leadevent/"
BULK_ACTIONS = "/admin/delivery/bulkaction/"
INCIDENTS = "/admin/stats/incident/"
HOURS = "/admin/stats/hourlystatistics/"

HOSTILE = "<script>alert(1)</script>\u202e"


def client_of(role: str | None = "", *permissions: str, language: str = "en", strict: bool = False) -> Client:
    """Return a client of a new user with the role and the permissions; None is a superuser.

    The user's name is the role in lower case, or `root`, or `intern` without a role. A strict client needs CSRF tokens.
    """
    name = "root" if role is None else role.lower() or "intern"
    user = User.objects.create(username=name, is_staff=True, is_superuser=role is None)
    user.groups.set(Group.objects.filter(name=role))
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(headers={"Accept-Language": language}, enforce_csrf_checks=strict)
    client.force_login(user)
    return client


def text_in(markup: str) -> str:
    """Return the text of HTML with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def text_of(client: Client, url: str, status: int = 200) -> str:
    """Return the text of a page without its sidebar."""
    response = client.get(url)
    assert response.status_code == status
    return text_in(response.text.partition('id="content"')[2])


def listed(client: Client, url: str = LEADS, **query: Any) -> list[int]:
    """Return the primary keys of the records that a list shows."""
    response = client.get(url, query)
    assert response.status_code == 200, response.headers.get("Location")
    return [record.pk for record in response.context["cl"].result_list]
