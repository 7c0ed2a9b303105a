"""Login by role and by language, and the lock after failed attempts."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import STAFF, SignIn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.mark.parametrize("name", STAFF)
def test_each_role_sees_the_dashboard(sign_in: SignIn, name: str) -> None:
    page = sign_in(name)

    expect(page.get_by_role("link", name="All leads")).to_be_visible()


def test_the_login_page_is_german_in_a_german_browser(open_page: SignIn) -> None:
    page = open_page(locale="de-DE")
    page.goto("/admin/")

    expect(page.get_by_role("button", name="Anmelden")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "de"


def test_failed_attempts_lock_the_account(open_page: SignIn) -> None:
    page = open_page()
    for _ in range(5):
        page.goto("/admin/login/")
        page.fill("input[name=username]", "unknown")
        page.fill("input[name=password]", "guess")
        page.click("#login-form [type=submit]")

    expect(page.get_by_role("alert")).to_contain_text("Try again in 15 minutes")
