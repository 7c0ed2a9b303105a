"""Every page in both languages, themes and widths: it fits, is accessible, and has no error."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.make import payload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture(scope="module")
def pages(gateway: Gateway, running_customer: HostileCustomer) -> dict[str, str]:
    """Every page by its name; one lead is hostile."""
    running_customer.set_mode("status=422")
    deep: object = "bottom"
    for _ in range(50):
        deep = {"deeper": deep}
    hostile = gateway.accept(
        payload(html="<img src=x onerror='window.broken = 1'>", right_to_left="\u202eevil\u202c שלום", deep=deep)
        | {f"field_{number}": "wide" * 100 for number in range(300)}
    )
    gateway.wait_for("PERMANENTLY_FAILED", hostile)
    running_customer.set_mode("")
    gateway.wait_for("DELIVERED", gateway.accept(payload()))
    gateway.wait_for("REJECTED", gateway.accept(payload(zipcode="12345")))
    erased = gateway.accept(payload(email="erased@example.com"))
    gateway.wait_for("DELIVERED", erased)
    gateway.manage("erase_person", "--email", "erased@example.com", "--no-input")
    attempt = gateway.attempts(hostile)[0]["id"]
    event = gateway.events(hostile)[-1]["id"]
    return {
        "dashboard": "/admin/",
        "leads": LEADS,
        "nothing found": f"{LEADS}?q=nothing",
        "a hostile lead": f"{LEADS}{hostile}/change/",
        "an erased lead": f"{LEADS}{erased}/change/",
        "a bulk action": f"{LEADS}bulk-action/redeliver/?ids={hostile}",
        "bulk-actions": "/admin/delivery/bulkaction/",
        "delivery": f"{LEADS}delivery/",
        "attempts": "/admin/delivery/deliveryattempt/",
        "an attempt": f"/admin/delivery/deliveryattempt/{attempt}/change/",
        "events": "/admin/leads/leadevent/",
        "an event": f"/admin/leads/leadevent/{event}/change/",
    }


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("en-GB", "light", 1280), ("en-GB", "dark", 390), ("de-DE", "light", 390), ("de-DE", "dark", 1280)],
)
def test_no_page_is_wider_than_its_window(
    sign_in: SignIn, pages: dict[str, str], language: str, theme: str, width: int
) -> None:
    page = sign_in("root", locale=language, color_scheme=theme, viewport={"width": width, "height": 900})

    assert {name: wide for name, url in pages.items() if (wide := overflow(page, url)) > 0} == {}
    assert page.evaluate("window.broken") is None
    assert page.locator("html").get_attribute("lang") == language[:2]


def overflow(page: Page, url: str) -> int:
    response = page.goto(url)
    assert response is not None
    assert response.status == 200
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def test_the_pages_of_django_have_no_browser_errors(sign_in: SignIn, errors: list[str]) -> None:
    """`sign_in` collects the errors of the console, such as a forbidden script."""
    page = sign_in("root")

    for path in ("user/", "user/add/", "user/1/change/", "user/1/password/", "user/1/delete/", "group/", "group/add/"):
        response = page.goto(f"/admin/auth/{path}")
        assert response is not None
        assert response.status == 200
    for path in ("/admin/password_change/", "/admin/nowhere/"):
        page.goto(path)


def test_a_forbidden_script_is_an_error_in_the_console(sign_in: SignIn, errors: list[str]) -> None:
    page = sign_in("root")
    page.evaluate(
        "const script = document.createElement('script'); script.text = 'window.broken = 1'; "
        "document.body.append(script)"
    )

    assert page.evaluate("window.broken") is None
    assert "Content Security Policy" in errors[0]
    errors.clear()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_our_pages_are_accessible(sign_in: SignIn, pages: dict[str, str], theme: str) -> None:
    page = sign_in("root", color_scheme=theme)

    assert {name: found for name, url in pages.items() if (found := violations(page, url))} == {}


def violations(page: Page, url: str) -> list[Any]:
    page.goto(url)
    # Only the content is ours; the frame around it is Unfold's.
    results = Axe().run(page, context="#content", options={"runOnly": ["wcag2a", "wcag2aa"]})
    return [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in results.response["violations"]]


@pytest.fixture
def paused(gateway: Gateway) -> Iterator[int]:
    """A lead that waits because delivery is paused, for a reason with a long word."""
    gateway.manage("pause_delivery", "--reason", f"maintenance {'x' * 300}")
    lead = gateway.accept(payload())
    gateway.wait_for("READY", lead)
    yield lead
    gateway.manage("resume_delivery")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_reason_of_a_pause_fits_into_every_page(
    sign_in: SignIn, pages: dict[str, str], paused: int, theme: str, width: int
) -> None:
    page = sign_in("otto", color_scheme=theme, viewport={"width": width, "height": 900})

    for url in (pages["dashboard"], LEADS, f"{LEADS}{paused}/change/", pages["delivery"]):
        assert (url, overflow(page, url), violations(page, url)) == (url, 0, [])
        expect(page.locator("#content")).to_contain_text("maintenance")


def test_a_lead_is_found_with_the_keyboard(sign_in: SignIn, pages: dict[str, str]) -> None:
    page = sign_in("root")
    page.goto(LEADS)

    page.keyboard.type("66123")
    page.keyboard.press("Enter")

    page.wait_for_url("**q=66123**")
    expect(page.locator("#result_list")).to_be_visible()


def test_the_page_of_a_lead_is_german_in_a_german_browser(sign_in: SignIn, pages: dict[str, str]) -> None:
    page = sign_in("root", locale="de-DE")

    page.goto(pages["a hostile lead"])

    expect(page.locator("#content")).to_contain_text("422")
    text = page.locator("#content").inner_text()
    assert [word for word in ("Received", "Delivered", "Attempt ", "Timeline", "Not sent") if word in text] == []


def test_the_dashboard_refreshes_itself(sign_in: SignIn, gateway: Gateway, pages: dict[str, str]) -> None:
    page = sign_in("root")
    page.evaluate("document.getElementById('dashboard').dataset.marked = 'yes'")
    seconds = int(page.locator("#dashboard").get_attribute("data-refresh") or 0)
    assert 5 <= seconds <= 60
    before = page.locator("#dashboard").inner_text()

    gateway.wait_for("DELIVERED", gateway.accept(payload()))

    expect(page.locator("#dashboard")).not_to_have_text(before, timeout=(seconds + 15) * 1000)
    assert page.locator("#dashboard").get_attribute("data-marked") == "yes"
