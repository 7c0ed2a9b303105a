"""A real browser and a real gateway: Debian's Chromium, driven by playwright, signed in by role.

playwright keeps an event loop in this thread, in which Django refuses its ORM. The tests write through the gateway and
read over a connection of their own.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.e2e.conftest import pytest_runtest_makereport, running_customer  # noqa: F401 (fixtures by import)
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.servers import program

PASSWORD = "correct horse battery staple"

#: The users of the tests and their groups. `root` is a superuser.
STAFF = {"sue": "Support", "otto": "Operator", "ada": "Auditor", "root": None}

CHROMIUM_ARGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

MAKE_STAFF = """
import json, sys
from django.contrib.auth.models import Group, User
for name, role in json.loads({staff!r}).items():
    user = User.objects.create_user(name, password={password!r}, is_staff=True, is_superuser=role is None)
    user.groups.set(Group.objects.filter(name=role))
"""


def browser_errors(message: ConsoleMessage) -> list[str]:
    """Return an error of the browser, such as a violation of the Content-Security-Policy; no failed responses."""
    is_error = message.type == "error" and not message.text.startswith("Failed to load resource")
    return [message.text] if is_error else []


SignIn = Callable[..., Page]


@pytest.fixture(scope="module")
def gateway(postgres: Any, redis: Any, running_customer: HostileCustomer) -> Iterator[Gateway]:  # noqa: F811
    """A gateway with one user of each role."""
    with Gateway(
        customer_url=running_customer.url, postgres=postgres, redis=redis, redis_database=2, MAX_RETRY_ATTEMPTS="2"
    ) as running:
        running.manage("shell", "-v0", "-c", MAKE_STAFF.format(staff=json.dumps(STAFF), password=PASSWORD))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = program("chromium", package="chromium")
        running = playwright.chromium.launch(executable_path=str(chromium), args=[*CHROMIUM_ARGS])
        yield running
        running.close()


@pytest.fixture
def contexts() -> Iterator[list[BrowserContext]]:
    """The browser profiles of a test."""
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        context.close()


@pytest.fixture
def open_page(browser: Browser, gateway: Gateway, contexts: list[BrowserContext]) -> SignIn:
    """A function that opens a page without a user: `open_page(locale="de-DE", color_scheme="dark")`."""

    def opened(**profile: Any) -> Page:
        profile = {"locale": "en-GB", "viewport": {"width": 1280, "height": 900}} | profile
        context = browser.new_context(base_url=gateway.url, **profile)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        return page

    return opened


@pytest.fixture
def sign_in(open_page: SignIn, errors: list[str]) -> SignIn:
    """A function that signs in as one of STAFF: `sign_in("otto", locale="de-DE")`."""

    def signed_in(name: str, **profile: Any) -> Page:
        page = open_page(**profile)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.extend(browser_errors(message)))
        page.goto("/admin/login/?next=/admin/")
        page.fill("input[name=username]", name)
        page.fill("input[name=password]", PASSWORD)
        page.click("#login-form [type=submit]")
        page.wait_for_url("**/admin/")
        return page

    return signed_in


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """The errors of the scripts of the pages. A test fails if there are any."""
    seen: list[str] = []
    yield seen
    assert seen == []
