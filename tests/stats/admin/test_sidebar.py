import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from leads.models import LeadStatus
from stats.admin import sidebar
from tests import make
from tests.stats.admin.pages import EVENTS, LEADS, client_of

pytestmark = pytest.mark.django_db


def items(client: Client, url: str = "/admin/") -> list[dict[str, Any]]:
    navigation = client.get(url).context["sidebar_navigation"]
    return [item for group in navigation for item in group["items"]]


def links(client: Client) -> dict[str, str]:
    return {re.sub(r"\s*<.*", "", str(item["title"])): item["link"] for item in items(client)}


def counts(client: Client) -> dict[str, str]:
    response = client.get(reverse("admin:leads_counts"))
    assert response.status_code == 200
    return {name: number for name, number in response.json().items() if number}


# --- links -----------------------------------------------------------------------------------------------------------

FOR_ALL = ["Dashboard", "All leads", "Needs attention", "Waiting for retry", "Outcome unknown"]
FOR_ALL += ["Received more than once", "All today", "Delivered", "Rejected", "Bulk actions", "Delivery"]
FOR_ALL += ["Attempts", "Events", "Incidents", "Hourly statistics"]


def test_every_user_sees_the_links_to_the_pages_they_may_open(admin_client: Client) -> None:
    assert list(links(admin_client)) == [*FOR_ALL, "Users", "Groups"]
    for role in ("Support", "Operator", "Auditor"):
        assert list(links(client_of(role))) == FOR_ALL
    intern = client_of("", "view_leadevent")
    assert list(links(intern)) == ["Dashboard", "Events"]
    assert intern.get(reverse("admin:leads_counts")).status_code == 403
    assert Client().get(reverse("admin:leads_counts")).status_code == 302


# --- the active link -------------------------------------------------------------------------------------------------


def active(client: Client, url: str) -> list[str]:
    return [str(item["link"]) for item in items(client, url) if item["active"]]


def test_every_link_opens_its_page_and_is_active_there(admin_client: Client) -> None:
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
def test_only_the_filters_decide_which_list_is_active(admin_client: Client, query: str, link: str) -> None:
    assert active(admin_client, f"{LEADS}?{query}") == [f"{LEADS}{link}"]


def test_a_record_belongs_to_the_list_from_which_it_was_opened(admin_client: Client) -> None:
    event = make.event()
    url = f"{LEADS}{event.lead_id}/change/"

    assert active(admin_client, f"{EVENTS}{event.pk}/change/") == [EVENTS]
    assert active(admin_client, url) == [LEADS]
    opened = urlencode({"_changelist_filters": "situation=waiting&p=3"})
    assert active(admin_client, f"{url}?{opened}") == [f"{LEADS}?situation=waiting"]


# --- counts ----------------------------------------------------------------------------------------------------------


def test_each_count_is_the_length_of_its_list(admin_client: Client) -> None:
    make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None)
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, resolved_at=timezone.now())
    make.attempt(make.lead(status=LeadStatus.FAILED), finished_at=None)
    make.lead(status=LeadStatus.DELIVERED)
    make.lead(status=LeadStatus.DELIVERED, received_at=make.NOON)
    make.lead(status=LeadStatus.REJECTED, received_again_at=timezone.now())

    found = counts(admin_client)

    assert found == {
        "attention": "2",
        "waiting": "1",
        "unknown": "1",
        "duplicates": "1",
        "today": "6",
        "DELIVERED-today": "1",
        "REJECTED-today": "1",
    }
    for entry in (entry for _, entries in sidebar.GROUPS for entry in entries if entry.rows):
        assert found[entry.key] == str(admin_client.get(entry.url).context["cl"].result_count)


def test_counting_stops_at_a_maximum_and_an_empty_list_has_no_count(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidebar, "MAX_COUNT", 2)
    assert counts(admin_client) == {}

    for number in ("1", "2", "2+"):
        make.lead(status=LeadStatus.PERMANENTLY_FAILED)
        assert counts(admin_client)["attention"] == number

    page = admin_client.get("/admin/").text
    url = reverse("admin:leads_counts")
    assert f'class="gateway-count gateway-failed" data-count="attention" data-counts="{url}">2+</span>' in page
    assert f'<span class="gateway-count" data-count="waiting" data-counts="{url}"></span>' in page


def test_all_counts_take_one_query(admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(10):
        make.lead(received_again_at=timezone.now())
    with django_assert_num_queries(3):  # the session, its user, the counts
        counts(admin_client)


def test_a_refresh_of_a_part_of_the_page_counts_nothing(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    url = "/admin/delivery/bulkaction/"
    with django_assert_num_queries(5):  # the session, its user, the count, the rows, the counts
        admin_client.get(url)
    with django_assert_num_queries(4):
        admin_client.get(url, headers={"x-requested-with": "refresh"})
