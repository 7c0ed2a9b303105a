"""Support, on the phone with somebody: find the lead, say what happened to it."""

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
    """A lead that the customer refused twice, posted as people type."""
    running_customer.set_mode("status=503")
    taken = gateway.accept(
        payload(
            email=" Erika@Example.COM ",
            phone="0151/123 456-78",
            name="Erika Mustermann",
            hobby="<script>window.broken = true</script>",
        )
    )
    gateway.wait_for("PERMANENTLY_FAILED", taken, timeout=30)
    running_customer.set_mode("")
    return taken


@pytest.mark.parametrize("typed", ["0151/123 456-78", "+49 151 12345678", "ERIKA@example.com", "erika mustermann"])
def test_what_the_caller_says_leads_straight_to_the_lead(
    sign_in: SignIn, gateway: Gateway, lead_id: int, typed: str
) -> None:
    page = sign_in("sue")

    page.get_by_role("link", name="All leads").click()
    page.get_by_role("searchbox", name="Search").fill(typed)
    page.keyboard.press("Enter")

    page.wait_for_url(f"**{LEADS}{lead_id}/change/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Lead {lead_id}")


def test_a_search_that_finds_nothing_says_what_can_be_searched_for(sign_in: SignIn, lead_id: int) -> None:
    page = sign_in("sue")

    page.goto(f"{LEADS}?q=nobody@example.org")

    expect(page.get_by_role("heading", name="No results for")).to_be_visible()
    expect(page.locator(".gateway-empty")).to_contain_text("phone")


def test_the_lead_page_tells_the_whole_story(sign_in: SignIn, lead_id: int) -> None:
    page = open_lead(sign_in("sue"), lead_id)

    expect(page.locator(".lead-summary")).to_contain_text("503")
    story = page.locator(".lead-timeline")
    for step in ("Received", "Mapped", "Attempt 1", "Attempt 2"):
        expect(story).to_contain_text(re.compile(step, re.IGNORECASE))
    story.get_by_text("Customer's response").first.click()
    expect(story.locator("pre").first).to_be_visible()


def test_what_the_mapping_changed_is_marked_and_explained(sign_in: SignIn, lead_id: int) -> None:
    page = open_lead(sign_in("otto"), lead_id)

    changes = page.locator("table.lead-changes")
    expect(changes).to_contain_text("+4915112345678")
    expect(changes).to_contain_text("erika@example.com")
    expect(page.locator("[aria-labelledby=lead-omitted]")).to_contain_text("hobby")
    assert page.evaluate("window.broken") is None


def test_support_sees_a_person_when_it_asks_and_the_trail_says_so(
    sign_in: SignIn, gateway: Gateway, lead_id: int
) -> None:
    page = open_lead(sign_in("sue"), lead_id)
    assert "15112345678" not in page.content()
    assert "erika@example.com" not in page.content().lower()

    page.get_by_role("button", name="Show personal data").click()

    expect(page.locator("#lead-payloads")).to_contain_text("+4915112345678")
    expect(page.locator(".lead-timeline")).to_contain_text("sue")
    assert [event["actor"] for event in gateway.events(lead_id) if event["kind"] == "revealed"] == ["sue"]


def test_support_may_not_act_and_not_export(sign_in: SignIn, lead_id: int) -> None:
    page = open_lead(sign_in("sue"), lead_id)
    assert page.locator(".lead-actions").count() == 0

    answer = page.goto(f"{LEADS}bulk-action/redeliver/?ids={lead_id}")
    assert answer is not None
    assert answer.status == 403
    page.goto(LEADS)
    assert page.get_by_role("button", name="CSV").count() == 0


def test_a_command_for_the_terminal_can_be_copied(sign_in: SignIn, lead_id: int) -> None:
    page = sign_in("otto", permissions=["clipboard-read", "clipboard-write"])
    open_lead(page, lead_id)

    command = page.locator("details.lead-command").last
    command.locator("summary").click()
    command.get_by_role("button", name="Copy").click()

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl ")
    assert "FakeCustomerToken" not in copied
    assert "$CUSTOMER_API_TOKEN" in copied


def test_the_saved_lists_say_how_many_leads_are_in_them(sign_in: SignIn, lead_id: int) -> None:
    page = sign_in("sue")
    link = page.locator("nav, #nav-sidebar").get_by_role("link", name=re.compile("Needs attention"))
    expect(link.first).to_contain_text(re.compile(r"\d"))

    link.first.click()

    page.wait_for_url("**situation=attention**")
    expect(page.locator("#result_list")).to_contain_text("503")


def open_lead(page: Page, lead_id: int) -> Page:
    page.goto(f"{LEADS}{lead_id}/change/")
    return page
