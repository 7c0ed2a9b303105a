import re

import pytest
from django.test import Client

from leads.models import InboundLead
from stats.admin.pagination import CappedPaginator
from tests import make
from tests.stats.admin.pages import LEADS, text_in

pytestmark = pytest.mark.django_db


def count_of(client: Client) -> str:
    page = client.get(LEADS).text
    found = re.search(r'class="gateway-count-of-list">(.*?)</p>', page, re.DOTALL)
    assert found
    return text_in(found[1])


def leads(number: int) -> None:
    for _ in range(number):
        make.lead()


def test_a_list_shows_its_length_up_to_a_maximum(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CappedPaginator, "CAP", 3)

    for text in ("0 leads", "1 lead", "2 leads", *["3 or more leads Use filters to see the others."] * 2):
        assert count_of(admin_client) == text
        make.lead()


def test_a_large_number_is_grouped() -> None:
    class Thousand(CappedPaginator):
        count = 1234

    assert Thousand(InboundLead.objects.order_by("pk"), 25).count_in_words == "1,234"


@pytest.mark.parametrize(("page", "shown"), [("2", 1), ("99", 1), ("-5", 25), ("x", 25), ("9" * 30, 1)])
def test_a_page_that_does_not_exist_is_replaced_by_the_nearest(admin_client: Client, page: str, shown: int) -> None:
    leads(26)

    response = admin_client.get(LEADS, {"p": page})

    assert response.status_code == 200
    assert len(response.context["cl"].result_list) == shown


def test_pages_keep_the_filters(admin_client: Client) -> None:
    leads(26)

    page = admin_client.get(LEADS, {"status": "RECEIVED"}).text

    assert "?p=2&amp;status=RECEIVED" in page
