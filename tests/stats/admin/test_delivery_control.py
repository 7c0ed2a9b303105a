"""The page of the way out: what it says, who may hold and resume delivery, and what that leaves in the trail."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from delivery.control import pause
from delivery.models import DeliveryControl
from delivery.privacy.erasure import erase
from delivery.privacy.person import Person
from delivery.privacy.person_search import find
from leads.models import EventKind, LeadEvent
from leads.normalization import search_keys
from tests import make

pytestmark = pytest.mark.django_db

PAGE = "/admin/leads/inboundlead/delivery/"


def signed_in(role: str) -> Client:
    user = User.objects.create_user(role.lower(), is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def press(client: Client, button: str, reason: str = "their maintenance") -> Any:
    return client.post(PAGE, {"action": button, "reason": reason}, follow=True)


def happenings() -> list[tuple[str, str, Any]]:
    return list(LeadEvent.objects.filter(lead=None).order_by("pk").values_list("kind", "actor", "detail__reason"))


def test_delivery_is_held_and_resumed_for_a_reason() -> None:
    client = signed_in("Operator")
    make.lead(status="READY")

    assert "Delivery paused. Nothing is sent" in press(client, "pause").text
    page = client.get(PAGE).text
    assert "1 lead is waiting." in page
    assert DeliveryControl.objects.get().paused_by == "operator"

    assert "Delivery resumed." in press(client, "resume", "done").text
    assert "Leads are sent to the customer." in client.get(PAGE).text
    assert happenings() == [
        (EventKind.DELIVERY_PAUSED, "operator", "their maintenance"),
        (EventKind.DELIVERY_RESUMED, "operator", "done"),
    ]


@pytest.mark.parametrize(("button", "says"), [("pause", "already paused"), ("resume", "was not paused")])
def test_a_page_that_is_out_of_date_changes_nothing(button: str, says: str) -> None:
    if button == "pause":
        pause.pause_delivery(actor="bob", reason="before", now=timezone.now())
    before = happenings()

    assert says in press(signed_in("Operator"), button).text

    assert happenings() == before


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_without_a_reason_nothing_happens(reason: str) -> None:
    answer = press(signed_in("Operator"), "pause", reason)

    assert 'role="alert"' in answer.text
    assert happenings() == []


@pytest.mark.parametrize("role", ["Support", "Auditor"])
def test_others_see_how_it_stands_and_have_no_switch(role: str) -> None:
    client = signed_in(role)

    assert "Pause delivery" not in client.get(PAGE).text
    assert client.post(PAGE, {"action": "pause", "reason": "no"}).status_code == 403
    assert happenings() == []


def test_who_may_see_no_leads_sees_nothing() -> None:
    User.objects.create_user("nobody", is_staff=True)
    client = Client()
    client.force_login(User.objects.get())

    assert client.get(PAGE).status_code == 403
    assert Client().get(PAGE).status_code == 302


def test_a_customer_that_is_down_is_told_with_its_next_probe() -> None:
    now = timezone.now()
    DeliveryControl.objects.create(
        pk=1, failures=12, circuit_opened_at=now - timedelta(minutes=5), next_probe_at=now + timedelta(minutes=2)
    )
    LeadEvent.objects.create(kind=EventKind.CIRCUIT_OPENED, actor="worker", at=now, detail={"failures": 10})

    page = signed_in("Support").get(PAGE).text

    assert "Customer marked as down since" in page
    assert "0 leads are waiting." in page
    assert str(EventKind.CIRCUIT_OPENED.label) in page
    assert "consecutive failures: 10" in page


def test_a_leads_page_says_what_keeps_it() -> None:
    lead = make.lead(status="READY")
    pause.pause_delivery(actor="bob", reason="their maintenance", now=timezone.now())

    assert "Delivery paused by bob at" in signed_in("Support").get(f"/admin/leads/inboundlead/{lead.pk}/change/").text


@pytest.mark.parametrize("page", ["/admin/", "/admin/leads/inboundlead/"])
def test_other_pages_say_what_keeps_all_leads(page: str) -> None:
    client = signed_in("Support")
    make.lead(status="READY")
    assert PAGE not in content(client, page)

    pause.pause_delivery(actor="bob", reason="mail ann@example.com", now=timezone.now())

    told = content(client, page)
    assert "Delivery paused" in told
    assert "Delivery paused by bob at" in told
    assert "1 lead is waiting." in told
    assert f'href="{PAGE}"' in told
    assert "ann@example.com" not in told  # for who may not see it


def content(client: Client, page: str) -> str:
    """Return the page without its sidebar, in which there always is a link."""
    cache.clear()
    return client.get(page).text.partition('id="content"')[2]


def test_a_customer_that_is_down_is_told_on_the_first_page_and_is_no_fault_of_the_workers() -> None:
    now = timezone.now()
    DeliveryControl.objects.create(pk=1, circuit_opened_at=now - timedelta(hours=9), next_probe_at=now)
    client = signed_in("Support")
    make.lead(status="READY", received_at=now - timedelta(hours=8), next_attempt_at=now - timedelta(hours=8))

    told = content(client, "/admin/")
    assert "Customer marked as down" in told
    assert "the next lead checks whether it has recovered. 1 lead is waiting." in told
    assert "is late" not in told
    assert "still undelivered" not in told

    make.lead(next_attempt_at=now - timedelta(hours=8))  # nobody has looked at it, and nothing keeps it
    assert "1 lead is late" in content(client, "/admin/")


def test_what_waits_for_its_turn_is_not_late(settings: Any) -> None:
    settings.CUSTOMER_API_RATE_LIMIT = timedelta(minutes=1)
    now = timezone.now()
    make.lead(status="READY", received_at=now, next_attempt_at=now - timedelta(minutes=5))

    assert "is late" not in content(signed_in("Support"), "/admin/")


def test_a_lead_can_be_found_by_its_source(settings: Any) -> None:
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["a", "b"], ["portal-a", "portal-b"]
    mine, other = make.lead(source="portal-a"), make.lead(source="portal-b")
    client = signed_in("Support")

    page = client.get("/admin/leads/inboundlead/?source=portal-a").text

    assert f"/{mine.pk}/change/" in page
    assert f"/{other.pk}/change/" not in page
    assert "portal-a" in client.get(f"/admin/leads/inboundlead/{mine.pk}/change/").text


def test_leads_of_no_source_can_be_found_where_there_are_sources(settings: Any) -> None:
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["a"], ["portal-a"]
    make.lead(source="portal-a")
    nobodys, client = make.lead(), signed_in("Support")

    listed = client.get("/admin/leads/inboundlead/?source=-").context["cl"].result_list
    assert [lead.pk for lead in listed] == [nobodys.pk]

    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = [], []
    assert 'name="source"' not in client.get("/admin/leads/inboundlead/").text


def test_an_erased_lead_says_so_and_offers_nothing_to_send() -> None:
    lead = make.lead(status="PERMANENTLY_FAILED", erased_at=timezone.now(), raw_payload={}, customer_payload=None)

    page = signed_in("Operator").get(f"/admin/leads/inboundlead/{lead.pk}/change/").text

    assert "Personal data was erased" in page
    assert page.count("Erased.") == 4  # three payloads, and the headers
    assert ">{}" not in page
    assert "cURL" not in page
    assert "bulk-action/redeliver/" not in page


def test_an_erased_lead_is_found_by_its_id_alone() -> None:
    payload = make.payload(email="ann@example.com", phone="0151 12345678", name="Ann Ott")
    lead = make.lead(status="DELIVERED", raw_payload=payload, **prefixed(vars(search_keys(payload))))
    make.lead(status="DELIVERED", search_email="bob@example.com")
    client = signed_in("Operator")
    asked = ("ann@example.com", "015112345678", "Ott", str(lead.pk))
    assert [found(client, text) for text in asked] == [True] * 4

    person = Person.from_contact(email="ann@example.com", phone=None)
    erase(person, find(person), actor="operator")

    assert [found(client, text) for text in asked] == [False, False, False, True]
    assert "erased" in client.get("/admin/leads/inboundlead/").text


def prefixed(keys: dict[str, Any]) -> dict[str, Any]:
    return {f"search_{name}": value for name, value in keys.items()}


def found(client: Client, text: str) -> bool:
    """Tell whether a search leads to exactly one lead, whose page opens at once."""
    return client.get("/admin/leads/inboundlead/", {"q": text}).status_code == 302
