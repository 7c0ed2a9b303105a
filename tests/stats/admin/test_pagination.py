import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from leads.models import InboundLead
from stats.admin.pagination import CappedPaginator
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def counts_to_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CappedPaginator, "CAP", 3)


def count_of(client: Client, **query: Any) -> str:
    page = client.get(reverse("admin:leads_inboundlead_changelist"), query).text
    told = re.search(r'class="gateway-count-of-list">(.*?)</p>', page, re.DOTALL)
    assert told
    return " ".join(re.sub("<[^>]+>", " ", told[1]).split())


def leads(number: int) -> None:
    for _ in range(number):
        make.lead()


@pytest.mark.parametrize(("number", "told"), [(0, "0 leads"), (1, "1 lead"), (2, "2 leads")])
@pytest.mark.usefixtures("counts_to_three")
def test_a_short_list_tells_its_length(admin_client: Client, number: int, told: str) -> None:
    leads(number)

    assert count_of(admin_client) == told


@pytest.mark.parametrize("number", [3, 5])
@pytest.mark.usefixtures("counts_to_three")
def test_a_long_list_tells_how_far_it_was_counted(admin_client: Client, number: int) -> None:
    leads(number)

    assert count_of(admin_client) == "3 or more leads Use filters to see the others."


def test_a_large_number_is_grouped() -> None:
    class Thousand(CappedPaginator):
        count = 1234

    assert Thousand(InboundLead.objects.order_by("pk"), 25).count_in_words == "1,234"


@pytest.mark.parametrize(("page", "shown"), [("2", 1), ("99", 1), ("-5", 25), ("x", 25), ("9" * 30, 1)])
def test_a_page_that_there_is_not_is_the_nearest_one(admin_client: Client, page: str, shown: int) -> None:
    leads(26)

    response = admin_client.get(reverse("admin:leads_inboundlead_changelist"), {"p": page})

    assert response.status_code == 200
    assert len(response.context["cl"].result_list) == shown


def test_pages_keep_the_filters(admin_client: Client) -> None:
    leads(26)

    page = admin_client.get(reverse("admin:leads_inboundlead_changelist"), {"status": "RECEIVED"}).text

    assert "?p=2&amp;status=RECEIVED" in page
