"""The delivery page, and what other pages show about delivery control, sources and erased leads."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from delivery.control import pause
from delivery.models import DeliveryControl
from leads.models import EventKind, LeadEvent
from tests import make
from tests.stats.admin.pages import LEADS, client_of, listed, text_of

pytestmark = pytest.mark.django_db

PAGE = f"{LEADS}delivery/"


def press(client: Client, button: str, reason: str = "maintenance") -> Any:
    return client.post(PAGE, {"action": button, "reason": reason}, follow=True)


def recorded() -> list[tuple[str, str, Any]]:
    return list(LeadEvent.objects.filter(lead=None).order_by("pk").values_list("kind", "actor", "detail__reason"))


def test_an_operator_pauses_and_resumes_delivery() -> None:
    client = client_of("Operator")
    make.lead(status="READY")

    assert "Delivery paused. Nothing is sent" in press(client, "pause").text
    page = client.get(PAGE).text
    assert "1 lead is waiting." in page
    assert DeliveryControl.objects.get().paused_by == "operator"

    assert "already paused" in press(client, "pause").text

    assert "Delivery resumed." in press(client, "resume", "done").text
    assert "Leads are sent to the customer." in client.get(PAGE).text
    assert "was not paused" in press(client, "resume").text
    assert recorded() == [
        (EventKind.DELIVERY_PAUSED, "operator", "maintenance"),
        (EventKind.DELIVERY_RESUMED, "operator", "done"),
    ]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_an_invalid_reason_changes_nothing(reason: str) -> None:
    response = press(client_of("Operator"), "pause", reason)

    assert 'role="alert"' in response.text
    assert recorded() == []


@pytest.mark.parametrize("role", ["Support", "Auditor"])
def test_other_roles_see_the_page_but_cannot_pause_delivery(role: str) -> None:
    client = client_of(role)

    assert "Pause delivery" not in client.get(PAGE).text
    assert client.post(PAGE, {"action": "pause", "reason": "no"}).status_code == 403
    assert client_of().get(PAGE).status_code == 403
    assert Client().get(PAGE).status_code == 302
    assert recorded() == []


def test_the_page_shows_a_customer_that_is_down() -> None:
    now = timezone.now()
    DeliveryControl.objects.create(
        pk=1, failures=12, circuit_opened_at=now - timedelta(minutes=5), next_probe_at=now + timedelta(minutes=2)
    )
    LeadEvent.objects.create(kind=EventKind.CIRCUIT_OPENED, actor="worker", at=now, detail={"failures": 10})

    page = client_of("Support").get(PAGE).text

    assert "Customer marked as down since" in page
    assert "0 leads are waiting." in page
    assert str(EventKind.CIRCUIT_OPENED.label) in page
    assert "consecutive failures: 10" in page


def test_other_pages_explain_why_leads_wait() -> None:
    client = client_of("Support")
    lead = make.lead(status="READY")
    pages = ("/admin/", LEADS, f"{LEADS}{lead.pk}/change/")
    assert [page for page in pages if PAGE in content(client, page)] == []

    pause.pause_delivery(actor="bob", reason="mail ann@example.com", now=timezone.now())

    for page in pages:
        text = content(client, page)
        assert "Delivery paused by bob at" in text
        assert f'href="{PAGE}"' in text
        assert "ann@example.com" not in text  # support sees it masked
        assert ("1 lead is waiting." in text) == (page != pages[2])


def content(client: Client, page: str) -> str:
    """Return the page without its sidebar, which always has a link to the delivery page."""
    cache.clear()
    return client.get(page).text.partition('id="content"')[2]


def test_leads_that_wait_for_delivery_control_are_not_late() -> None:
    now = timezone.now()
    DeliveryControl.objects.create(pk=1, circuit_opened_at=now - timedelta(hours=9), next_probe_at=now)
    client = client_of("Support")
    make.lead(status="READY", received_at=now - timedelta(hours=8), next_attempt_at=now - timedelta(hours=8))

    text = content(client, "/admin/")
    assert "Customer marked as down" in text
    assert "the next lead checks whether it has recovered. 1 lead is waiting." in text
    assert "is late" not in text
    assert "still undelivered" not in text

    make.lead(next_attempt_at=now - timedelta(hours=8))  # received leads can be checked all the same
    assert "1 lead is late" in content(client, "/admin/")


def test_leads_are_filtered_by_source_if_there_are_sources(settings: Any) -> None:
    lead, other = make.lead(source="portal-a"), make.lead()
    client = client_of("Support")
    assert 'name="source"' not in client.get(LEADS).text
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["a", "b"], ["portal-a", "portal-b"]

    assert listed(client, source="portal-a") == [lead.pk]
    assert listed(client, source="-") == [other.pk]
    assert "portal-a" in client.get(f"{LEADS}{lead.pk}/change/").text


def test_the_page_of_an_erased_lead() -> None:
    lead = make.lead(status="PERMANENTLY_FAILED", erased_at=timezone.now(), raw_payload={}, customer_payload=None)

    client = client_of("Operator")
    page = client.get(f"{LEADS}{lead.pk}/change/").text

    assert "erased" in text_of(client, LEADS)
    assert "Personal data was erased" in page
    assert page.count("Erased.") == 4  # three payloads, and the headers
    assert ">{}" not in page
    assert "cURL" not in page
    assert "bulk-action/redeliver/" not in page
