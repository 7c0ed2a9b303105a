import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from leads.models import LeadStatus
from stats.admin import sidebar
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture
def admin_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def client_of(*groups: str) -> Client:
    user = User.objects.create_user("somebody", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    client = Client()
    client.force_login(user)
    return client


def items(client: Client, url: str = "/admin/") -> list[dict[str, Any]]:
    navigation = client.get(url).context["sidebar_navigation"]
    return [item for group in navigation for item in group["items"]]


def links(client: Client) -> dict[str, str]:
    return {re.sub(r"\s*<.*", "", str(item["title"])): item["link"] for item in items(client)}


def counts(client: Client) -> dict[str, str]:
    answer = client.get(reverse("admin:leads_counts"))
    assert answer.status_code == 200
    return {name: number for name, number in answer.json().items() if number}


# --- who sees what ---------------------------------------------------------------------------------------------------

FOR_ALL = ["Dashboard", "All leads", "Needs attention", "Waiting for retry", "Outcome unknown"]
FOR_ALL += ["Received more than once", "All today", "Delivered", "Rejected", "Bulk actions", "Delivery"]
FOR_ALL += ["Attempts", "Events", "Incidents", "Hourly statistics"]


def test_a_superuser_sees_everything(admin_client: Client) -> None:
    assert list(links(admin_client)) == [*FOR_ALL, "Users", "Groups"]


@pytest.mark.parametrize("role", ["Support", "Operator", "Auditor"])
def test_a_role_sees_all_but_the_staff(role: str) -> None:
    assert list(links(client_of(role))) == FOR_ALL


def test_staff_without_a_permission_see_no_list_and_no_number() -> None:
    make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    client = client_of()

    assert list(links(client)) == ["Dashboard"]
    assert client.get(reverse("admin:leads_counts")).status_code == 403


def test_each_link_has_a_permission_of_its_own() -> None:
    client = client_of()
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_leadevent"))

    assert list(links(client)) == ["Dashboard", "Events"]


def test_strangers_get_no_numbers(client: Client) -> None:
    assert client.get(reverse("admin:leads_counts")).status_code == 302


def test_every_link_leads_to_a_page(admin_client: Client) -> None:
    assert {url: admin_client.get(url).status_code for url in links(admin_client).values()} == dict.fromkeys(
        links(admin_client).values(), 200
    )


# --- which one is active ---------------------------------------------------------------------------------------------


def active(client: Client, url: str) -> list[str]:
    return [str(item["link"]) for item in items(client, url) if item["active"]]


def test_exactly_the_list_that_is_open_is_active(admin_client: Client) -> None:
    for url in links(admin_client).values():
        assert active(admin_client, url) == [url]


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ("situation=attention&p=2", "?situation=attention"),
        ("q=muster&situation=attention&o=2", "?situation=attention"),
        ("situation=attention&status=", "?situation=attention"),
        ("situation=attention&answer=503", ""),
        ("received=today&status=DELIVERED", "?status=DELIVERED&received=today"),
        ("status=FAILED", ""),
        ("q=muster", ""),
    ],
)
def test_a_list_is_known_by_its_filters_alone(admin_client: Client, query: str, link: str) -> None:
    assert active(admin_client, f"{LEADS}?{query}") == [f"{LEADS}{link}"]


def test_a_lead_belongs_to_the_list_from_which_it_was_opened(admin_client: Client) -> None:
    url = f"{LEADS}{make.lead().pk}/change/"

    assert active(admin_client, url) == [LEADS]
    opened = urlencode({"_changelist_filters": "situation=waiting&p=3"})
    assert active(admin_client, f"{url}?{opened}") == [f"{LEADS}?situation=waiting"]


def test_a_page_of_another_record_belongs_to_its_list(admin_client: Client) -> None:
    event = make.event()

    assert active(admin_client, f"/admin/leads/leadevent/{event.pk}/change/") == ["/admin/leads/leadevent/"]


# --- how many --------------------------------------------------------------------------------------------------------


def test_each_list_has_as_many_as_it_lists(admin_client: Client) -> None:
    make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None)
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, resolved_at=timezone.now())
    make.attempt(make.lead(status=LeadStatus.FAILED), finished_at=None)
    make.lead(status=LeadStatus.DELIVERED)
    make.lead(status=LeadStatus.DELIVERED, received_at=make.NOON)
    make.lead(status=LeadStatus.REJECTED, received_again_at=timezone.now())

    numbers = counts(admin_client)

    assert numbers == {
        "attention": "2",
        "waiting": "1",
        "unknown": "1",
        "duplicates": "1",
        "today": "6",
        "DELIVERED-today": "1",
        "REJECTED-today": "1",
    }
    for entry in (entry for _, entries in sidebar.GROUPS for entry in entries if entry.rows):
        assert numbers[entry.key] == str(admin_client.get(entry.url).context["cl"].result_count)


def test_nothing_is_said_where_there_is_nothing(admin_client: Client) -> None:
    assert counts(admin_client) == {}
    assert (
        '<span class="gateway-count" data-count="waiting" data-counts="/admin/leads/inboundlead/counts/"></span>'
        in (admin_client.get("/admin/").text)
    )


def test_the_page_has_the_numbers_that_are_kept_up_to_date(admin_client: Client) -> None:
    make.lead(status=LeadStatus.PERMANENTLY_FAILED)

    assert 'class="gateway-count gateway-failed" data-count="attention" data-counts="{}">1</span>'.format(
        reverse("admin:leads_counts")
    ) in (admin_client.get("/admin/").text)


def test_numbers_end_somewhere(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidebar, "MAX_COUNT", 2)
    for _ in range(2):
        make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    assert counts(admin_client)["attention"] == "2"

    make.lead(status=LeadStatus.PERMANENTLY_FAILED)

    assert counts(admin_client)["attention"] == "2+"


def test_all_numbers_take_one_query(admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(10):
        make.lead(received_again_at=timezone.now())
    with django_assert_num_queries(3):  # the session, its user, the numbers
        counts(admin_client)


def test_a_part_of_a_page_is_fetched_anew_without_the_numbers(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    url = "/admin/delivery/bulkaction/"
    with django_assert_num_queries(5):  # the session, its user, the count, the rows, the numbers
        admin_client.get(url)
    with django_assert_num_queries(4):
        admin_client.get(url, headers={"x-requested-with": "refresh"})
