"""Who may do what: the groups that the migration makes, door by door."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from leads.models import InboundLead, LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

ROLES = ("Support", "Operator", "Auditor")

SignIn = Callable[[str], Client]


@pytest.fixture
def as_role() -> SignIn:
    """A function that returns a client of somebody in a group."""

    def signed_in(role: str) -> Client:
        user = User.objects.create_user(role.lower(), is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        return client

    return signed_in


@pytest.fixture
def lead() -> InboundLead:
    return make.lead(
        status=LeadStatus.PERMANENTLY_FAILED,
        raw_payload=make.payload(email="erika@example.com", phone="+4915112345678"),
        search_email="erika@example.com",
        search_phone="+4915112345678",
    )


def test_the_migration_makes_the_groups_with_their_permissions() -> None:
    view = {"view_inboundlead", "view_leadevent", "view_deliveryattempt", "view_bulkaction"}
    view |= {"view_incident", "view_hourlystatistics"}
    found = {group.name: {p.codename for p in group.permissions.all()} for group in Group.objects.all()}

    assert found == {
        "Support": view | {"reveal_personal_data"},
        "Operator": view | {"view_personal_data", "act_on_lead"},
        "Auditor": view | {"view_personal_data", "export_lead"},
    }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "model", ["leads_inboundlead", "leads_leadevent", "delivery_deliveryattempt", "delivery_bulkaction"]
)
def test_every_role_may_look(as_role: SignIn, role: str, model: str) -> None:
    assert as_role(role).get(reverse(f"admin:{model}_changelist")).status_code == 200


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("model", ["auth_user", "auth_group"])
def test_nobody_but_a_superuser_manages_staff(as_role: SignIn, role: str, model: str) -> None:
    assert as_role(role).get(reverse(f"admin:{model}_changelist")).status_code == 403


@pytest.mark.parametrize(
    ("door", "allowed"),
    [("order", {"Operator"}), ("export", {"Auditor"}), ("reveal", {"Support"})],
)
@pytest.mark.parametrize("role", ROLES)
def test_each_act_has_its_role(as_role: SignIn, lead: InboundLead, role: str, door: str, allowed: set[str]) -> None:
    answer: Any = DOORS[door](as_role(role), lead)

    assert (answer.status_code == 403) == (role not in allowed)
    assert answer.status_code < 404


DOORS: dict[str, Callable[[Client, InboundLead], Any]] = {
    "order": lambda client, lead: client.get(reverse("admin:leads_bulk_action", args=["redeliver"]), {"ids": lead.pk}),
    "export": lambda client, lead: client.post(reverse("admin:leads_export"), {"format": "csv"}),
    "reveal": lambda client, lead: client.post(reverse("admin:leads_reveal", args=[lead.pk])),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "model", ["leads_inboundlead", "leads_leadevent", "delivery_deliveryattempt", "delivery_bulkaction"]
)
def test_nobody_adds_edits_or_deletes(as_role: SignIn, lead: InboundLead, role: str, model: str) -> None:
    client = as_role(role)

    assert client.get(reverse(f"admin:{model}_add")).status_code == 403
    assert client.post(reverse(f"admin:{model}_delete", args=[lead.pk]), {"post": "yes"}).status_code in (302, 403, 404)
    assert InboundLead.objects.filter(pk=lead.pk).exists()


@pytest.mark.parametrize(("role", "masked"), [("Support", True), ("Operator", False), ("Auditor", False)])
@pytest.mark.parametrize("page", ["list", "lead"])
def test_support_sees_personal_data_masked(
    as_role: SignIn, lead: InboundLead, role: str, masked: bool, page: str
) -> None:
    url = reverse("admin:leads_inboundlead_changelist")
    text = as_role(role).get(url if page == "list" else f"{url}{lead.pk}/change/").text

    assert ("4915112345678" not in text) == masked
    assert ("erika@example.com" not in text) == masked
