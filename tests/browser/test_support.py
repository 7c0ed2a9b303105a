"""Support finds the lead of a caller and reads what happened to it."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.make import payload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture(scope="module")
def lead_id(gateway: Gateway, running_customer: HostileCustomer) -> int:
    """A lead with contact data as people type it, which the customer failed to accept twice."""
    running_customer.set_mode("status=503")
    failed = gateway.accept(
        payload(
            email=" Erika@Example.COM ",
            phone="0151/123 456-78",
            name="Erika Mustermann",
            hobby="<script>window.broken = true</script>",
        )
    )
    gateway.wait_for("PERMANENTLY_FAILED", failed, timeout=30)
    running_customer.set_mode("")
    return failed


@pytest.mark.parametrize("typed", ["0151/123 456-78", "ERIKA@example.com"])
def test_a_search_opens_the_page_of_the_lead(sign_in: SignIn, gateway: Gateway, lead_id: int, typed: str) -> None:
    page = sign_in("sue")

    page.get_by_role("link", name="All leads").click()
    page.get_by_role("searchbox", name="Search").fill(typed)
    page.keyboard.press("Enter")

    page.wait_for_url(f"**{LEADS}{lead_id}/change/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Lead {lead_id}")


def test_the_page_shows_the_timeline_and_the_responses(sign_in: SignIn, lead_id: int) -> None:
    page = open_lead(sign_in("sue"), lead_id)

    expect(page.locator(".lead-summary")).to_contain_text("503")
    timeline = page.locator(".lead-timeline")
    for step in ("Received", "Mapped", "Attempt 1", "Attempt 2"):
        expect(timeline).to_contain_text(re.compile(step, re.IGNORECASE))
    timeline.get_by_text("Customer's response").first.click()
    expect(timeline.locator("pre").first).to_be_visible()


def test_support_reveals_personal_data_which_is_recorded(sign_in: SignIn, gateway: Gateway, lead_id: int) -> None:
    page = open_lead(sign_in("sue"), lead_id)
    assert "15112345678" not in page.content()
    assert "erika@example.com" not in page.content().lower()

    page.get_by_role("button", name="Show personal data").click()

    expect(page.locator("#lead-payloads")).to_contain_text("+4915112345678")
    expect(page.locator(".lead-timeline")).to_contain_text("sue")
    assert [event["actor"] for event in gateway.events(lead_id) if event["kind"] == "revealed"] == ["sue"]


def test_a_curl_command_can_be_copied(sign_in: SignIn, lead_id: int) -> None:
    page = sign_in("otto", permissions=["clipboard-read", "clipboard-write"])
    open_lead(page, lead_id)

    command = page.locator("details.lead-command").last
    command.locator("summary").click()
    command.get_by_role("button", name="Copy").click()

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl ")
    assert "FakeCustomerToken" not in copied
    assert "$CUSTOMER_API_TOKEN" in copied


def open_lead(page: Page, lead_id: int) -> Page:
    page.goto(f"{LEADS}{lead_id}/change/")
    return page
