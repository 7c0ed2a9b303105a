"""Operators: send again what failed, one lead or many, with a reason, and stop it when it was wrong."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.make import payload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LEADS = "/admin/leads/inboundlead/"


def failed_leads(gateway: Gateway, customer: HostileCustomer, number: int, *, status: int) -> list[int]:
    """Return leads that the customer has refused for good; from now on it takes what comes."""
    customer.set_mode(f"status={status}")
    leads = [gateway.accept(payload()) for _ in range(number)]
    gateway.wait_for_all("PERMANENTLY_FAILED", leads, timeout=40)
    customer.set_mode("")
    return leads


def order(page: Page, reason: str) -> None:
    page.get_by_label(re.compile("Reason|Why", re.IGNORECASE)).fill(reason)
    page.locator("form.bulk-action-form [type=submit]").click()


def test_one_lead_is_sent_again_for_a_reason(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    [lead_id] = failed_leads(gateway, running_customer, 1, status=422)
    page = sign_in("otto")
    page.goto(f"{LEADS}{lead_id}/change/")

    page.locator(".lead-actions").get_by_role("link", name="Redeliver").click()
    order(page, "the customer has mended it")

    gateway.wait_for("DELIVERED", lead_id)
    page.goto(f"{LEADS}{lead_id}/change/")
    expect(page.locator(".lead-timeline")).to_contain_text("the customer has mended it")
    expect(page.locator(".lead-timeline")).to_contain_text("otto")


def test_an_order_needs_a_reason(sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer) -> None:
    [lead_id] = failed_leads(gateway, running_customer, 1, status=422)
    page = sign_in("otto")
    page.goto(f"{LEADS}bulk-action/redeliver/?ids={lead_id}")

    page.locator("form.bulk-action-form [type=submit]").click()

    assert page.url.endswith(f"ids={lead_id}")
    assert gateway.lead(lead_id)["status"] == "PERMANENTLY_FAILED"


def test_a_delivered_lead_goes_out_again_only_when_that_is_confirmed(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    lead_id = gateway.accept(payload())
    gateway.wait_for("DELIVERED", lead_id)
    page = sign_in("otto")
    page.goto(f"{LEADS}bulk-action/redeliver/?ids={lead_id}")
    page.get_by_label(re.compile("Reason|Why", re.IGNORECASE)).fill("the customer lost it")

    page.locator("form.bulk-action-form [type=submit]").click()
    assert len(gateway.attempts(lead_id)) == 1
    page.locator("#include-delivered").check()
    page.locator("form.bulk-action-form [type=submit]").click()

    page.wait_for_url(f"**{lead_id}/change/**")
    expect(page.locator(".lead-timeline")).to_contain_text("2 in total")
    gateway.wait_for("DELIVERED", lead_id)


def test_a_group_of_failures_is_sent_again_from_the_dashboard(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 3, status=418)
    page = sign_in("otto")

    # Figures are kept for some seconds; the page fetches newer ones by itself.
    group = page.locator(".dashboard-failures li", has_text="418")
    group.get_by_role("link", name=re.compile("Redeliver")).click(timeout=40_000)
    expect(page.locator(".bulk-action-preview")).to_contain_text("3")
    order(page, "a teapot no more")

    gateway.wait_for_all("DELIVERED", leads)


def test_many_are_chosen_in_the_list_and_marked_as_settled(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 3, status=404)
    page = sign_in("otto")
    page.goto(f"{LEADS}?situation=attention&answer=404")
    for lead_id in leads[:2]:
        page.locator(f"input.action-select[value='{lead_id}']").check()

    page.locator("select[name=action]").select_option(label="Resolve…")
    page.get_by_role("button", name=re.compile("Run")).click()
    order(page, "called the customer")

    page.goto(f"{LEADS}?situation=attention&answer=404")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    assert [event["kind"] for event in gateway.events(leads[0])][-1] == "resolved"


def test_a_large_order_shows_its_progress_and_can_be_cancelled(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 120, status=410)
    page = sign_in("otto")
    page.goto(f"{LEADS}bulk-action/redeliver/?situation=attention&answer=410")

    order(page, "by mistake")
    expect(page.locator("#numbers")).to_contain_text(re.compile(r"[1-9]\d* done"), timeout=15_000)
    page.get_by_role("button", name=re.compile("Cancel|Stop")).click()

    expect(page.locator("#progress")).to_contain_text(re.compile("cancelled", re.IGNORECASE))
    [placed] = gateway.rows("SELECT * FROM bulk_action WHERE reason = 'by mistake'")
    assert (placed["total"], placed["cancelled_by"]) == (120, "otto")
    assert 0 < placed["done"] < 120
    ordered = [lead for lead in leads if any(event["kind"] == "redelivered" for event in gateway.events(lead))]
    assert len(ordered) == placed["done"]
