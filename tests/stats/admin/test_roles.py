"""The permissions of each role on every page."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from delivery.models import BulkAction, BulkActionKind
from leads.models import EventKind, InboundLead, LeadStatus
from stats.models import HourlyStatistics, Incident
from tests import make
from tests.stats.admin.pages import ATTEMPTS, BULK_ACTIONS, EVENTS, HOURS, INCIDENTS, LEADS, client_of, text_of

pytestmark = pytest.mark.django_db

ROLES = ("Support", "Operator", "Auditor")


@pytest.fixture
def lead() -> InboundLead:
    return make.lead(status=LeadStatus.PERMANENTLY_FAILED)


@pytest.fixture
def records(lead: InboundLead) -> dict[str, Model]:
    """One record of each list. The database would allow the outcome of the attempt to be written."""
    return {
        LEADS: lead,
        ATTEMPTS: make.attempt(lead, finished_at=None),
        EVENTS: make.event(lead),
        BULK_ACTIONS: BulkAction.objects.create(
            kind=BulkActionKind.RESOLVE, actor="ann", reason="x", selection="all=1", created_at=make.NOON
        ),
        INCIDENTS: Incident.objects.create(kind="no_beat", opened_at=make.NOON, last_seen_at=make.NOON),
        HOURS: HourlyStatistics.objects.create(hour=make.NOON),
    }


def test_the_migration_makes_the_groups_with_their_permissions() -> None:
    view = {"view_inboundlead", "view_leadevent", "view_deliveryattempt", "view_bulkaction"}
    view |= {"view_incident", "view_hourlystatistics"}
    found = {group.name: {p.codename for p in group.permissions.all()} for group in Group.objects.all()}

    assert found == {
        "Support": view | {"reveal_personal_data"},
        "Operator": view | {"view_personal_data", "act_on_lead"},
        "Auditor": view | {"view_personal_data", "export_lead"},
    }


@pytest.mark.parametrize("role", [*ROLES, None])
def test_every_role_sees_all_records_and_changes_none(role: str | None, records: dict[str, Model]) -> None:
    client = client_of(role)
    before = [type(record).objects.values().get() for record in records.values()]  # type: ignore[attr-defined]
    change = {
        "status": "DELIVERED",
        "success": "on",
        "response_status": "200",
        "actor": "me",
        "total": 0,
        "post": "yes",
    }

    for url, record in records.items():
        page = f"{url}{record.pk}/change/"
        assert [client.get(address).status_code for address in (url, page)] == [200, 200]
        client.post(page, {**change, "_save": "Save"})
        for address in (f"{url}add/", f"{url}{record.pk}/delete/"):
            assert [client.get(address).status_code, client.post(address, change).status_code] == [403, 403]
        client.post(url, {"action": "delete_selected", "_selected_action": [record.pk], "index": "0", **change})

    assert [type(record).objects.values().get() for record in records.values()] == before  # type: ignore[attr-defined]


def test_users_without_a_role_see_no_record(records: dict[str, Model]) -> None:
    intern, anonymous = client_of(), Client()

    for url, record in records.items():
        for address in (url, f"{url}{record.pk}/change/"):
            assert intern.get(address).status_code == 403
            assert anonymous.get(address).headers["Location"] == f"/admin/login/?next={address}"


def test_users_who_see_leads_only_see_no_events_and_attempts_of_a_lead(lead: InboundLead) -> None:
    make.event(lead, detail={"notes": ["a note"]})
    make.attempt(lead, response_body="a response", duration_ms=4711)

    shown = text_of(client_of("", "view_inboundlead"), f"{LEADS}{lead.pk}/change/")

    assert [part for part in ("a note", "a response", "4,711") if part in shown] == []


ACTIONS: dict[str, Callable[[Client, InboundLead], Any]] = {
    "bulk action": lambda client, lead: client.get(f"{LEADS}bulk-action/redeliver/", {"ids": lead.pk}),
    "export": lambda client, lead: client.post(reverse("admin:leads_export"), {"format": "csv"}),
    "reveal": lambda client, lead: client.post(f"{LEADS}{lead.pk}/reveal/"),
}


@pytest.mark.parametrize(
    ("action", "allowed"), [("bulk action", "Operator"), ("export", "Auditor"), ("reveal", "Support")]
)
@pytest.mark.parametrize("role", ROLES)
def test_each_action_belongs_to_one_role(lead: InboundLead, role: str, action: str, allowed: str) -> None:
    response = ACTIONS[action](client_of(role), lead)

    assert (response.status_code == 403) == (role != allowed)
    assert response.status_code < 404
    assert lead.events.filter(kind__in=[EventKind.REVEALED]).exists() == (action == "reveal" and role == allowed)


@pytest.mark.parametrize("action", ACTIONS)
def test_anonymous_users_are_redirected_to_the_login(lead: InboundLead, action: str) -> None:
    assert ACTIONS[action](Client(), lead).headers["Location"].startswith("/admin/login/")
