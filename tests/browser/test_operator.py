"""Operators redeliver and resolve leads, one or many, with a reason, and cancel bulk actions."""

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
    """Return new leads that the customer has rejected. Afterwards the customer accepts leads again."""
    customer.set_mode(f"status={status}")
    leads = [gateway.accept(payload()) for _ in range(number)]
    gateway.wait_for_all("PERMANENTLY_FAILED", leads, timeout=40)
    customer.set_mode("")
    return leads


def confirm(page: Page, reason: str) -> None:
    page.get_by_label("Reason").fill(reason)
    page.locator("form.bulk-action-form [type=submit]").click()


def test_one_lead_is_redelivered_with_a_reason(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    [lead_id] = failed_leads(gateway, running_customer, 1, status=422)
    page = sign_in("otto")
    page.goto(f"{LEADS}{lead_id}/change/")

    page.locator(".lead-actions").get_by_role("link", name="Redeliver").click()
    confirm(page, "the customer fixed it")

    gateway.wait_for("DELIVERED", lead_id)
    page.goto(f"{LEADS}{lead_id}/change/")
    expect(page.locator(".lead-timeline")).to_contain_text("the customer fixed it")
    expect(page.locator(".lead-timeline")).to_contain_text("otto")


def test_a_delivered_lead_is_redelivered_only_after_confirmation(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    lead_id = gateway.accept(payload())
    gateway.wait_for("DELIVERED", lead_id)
    page = sign_in("otto")
    page.goto(f"{LEADS}bulk-action/redeliver/?ids={lead_id}")
    submit = page.locator("form.bulk-action-form [type=submit]")

    submit.click()  # the browser asks for the reason
    page.get_by_label("Reason").fill("the customer lost it")
    submit.click()  # and for the confirmation
    assert len(gateway.attempts(lead_id)) == 1
    page.locator("#include-delivered").check()
    submit.click()

    page.wait_for_url(f"**{lead_id}/change/**")
    expect(page.locator(".lead-timeline")).to_contain_text("2 in total")
    gateway.wait_for("DELIVERED", lead_id)


def test_a_group_of_failures_is_redelivered_from_the_dashboard(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 3, status=418)
    page = sign_in("otto")

    # The numbers are cached for some seconds; the page refreshes itself.
    group = page.locator(".dashboard-failures li", has_text="418")
    group.get_by_role("link", name=re.compile("Redeliver")).click(timeout=40_000)
    expect(page.locator(".bulk-action-preview")).to_contain_text("3")
    confirm(page, "no longer a teapot")

    gateway.wait_for_all("DELIVERED", leads)


def test_selected_leads_of_the_list_are_resolved(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 3, status=404)
    page = sign_in("otto")
    page.goto(f"{LEADS}?situation=attention&answer=404")
    for lead_id in leads[:2]:
        page.locator(f"input.action-select[value='{lead_id}']").check()

    page.locator("select[name=action]").select_option(label="Resolve…")
    page.get_by_role("button", name=re.compile("Run")).click()
    confirm(page, "called the customer")

    page.goto(f"{LEADS}?situation=attention&answer=404")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    assert [event["kind"] for event in gateway.events(leads[0])][-1] == "resolved"


def test_a_large_bulk_action_shows_its_progress_and_can_be_cancelled(
    sign_in: SignIn, gateway: Gateway, running_customer: HostileCustomer
) -> None:
    leads = failed_leads(gateway, running_customer, 120, status=410)
    page = sign_in("otto")
    page.goto(f"{LEADS}bulk-action/redeliver/?situation=attention&answer=410")

    confirm(page, "by mistake")
    expect(page.locator("#numbers")).to_contain_text(re.compile(r"[1-9]\d* done"), timeout=15_000)
    page.get_by_role("button", name=re.compile("Cancel")).click()

    expect(page.locator("#progress")).to_contain_text(re.compile("cancelled", re.IGNORECASE))
    [bulk_action] = gateway.rows("SELECT * FROM bulk_action WHERE reason = 'by mistake'")
    assert (bulk_action["total"], bulk_action["cancelled_by"]) == (120, "otto")
    assert 0 < bulk_action["done"] < 120
    redelivered = [lead for lead in leads if any(event["kind"] == "redelivered" for event in gateway.events(lead))]
    assert len(redelivered) == bulk_action["done"]
