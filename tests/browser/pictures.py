"""Take pictures of every page of the admin: `python -m tests.browser.pictures DIRECTORY [--leads N]`.

A private gateway with sample leads is started for it. `make pictures` takes those of the documentation.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import CHROMIUM_ARGS, MAKE_STAFF, PASSWORD, STAFF
from tests.e2e.gateway import Gateway
from tests.environment import ROOT
from tests.hostile_customer import HostileCustomer
from tests.servers import PostgresServer, RedisServer, program

LEADS = "/admin/leads/inboundlead/"

WIDTHS = {"wide": 1280, "phone": 390}

#: Page of the documentation -> the height of its picture in pixels.
IN_THE_README = {"dashboard": 1650, "list": 900, "lead": 1720, "bulk_action": 700}


def pages(gateway: Gateway) -> dict[str, str]:
    """Return the URL of every page by its name."""

    def one(condition: str, table: str = "inbound_lead") -> int:
        return int(gateway.rows(f"SELECT id FROM {table} WHERE {condition} ORDER BY id DESC LIMIT 1")[0]["id"])

    failed, delivered, rejected = (
        one(f"status = '{status}'") for status in ("PERMANENTLY_FAILED", "DELIVERED", "REJECTED")
    )
    return {
        "dashboard": "/admin/",
        "dashboard-7d": "/admin/?window=7d",
        "list": LEADS,
        "list-attention": f"{LEADS}?situation=attention",
        "list-empty": f"{LEADS}?q=nobody@example.org",
        "lead": f"{LEADS}{failed}/change/",
        "lead-delivered": f"{LEADS}{delivered}/change/",
        "lead-rejected": f"{LEADS}{rejected}/change/",
        "bulk_action": f"{LEADS}bulk-action/redeliver/?situation=attention",
        "bulk-action-one": f"{LEADS}bulk-action/reprocess/?ids={failed}",
        "bulk-actions": "/admin/delivery/bulkaction/",
        "delivery": f"{LEADS}delivery/",
        "attempts": "/admin/delivery/deliveryattempt/",
        "events": "/admin/leads/leadevent/",
        "event": f"/admin/leads/leadevent/{one('true', 'lead_event')}/change/",
        "incidents": "/admin/stats/incident/",
        "hours": "/admin/stats/hourlystatistics/",
        "users": "/admin/auth/user/",
    }


@contextmanager
def sample_gateway(leads: int) -> Iterator[Gateway]:
    """Run a gateway with sample leads and staff."""
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        HostileCustomer() as customer,
        Gateway(customer_url=customer.url, postgres=postgres, redis=redis, RETRY_BACKOFF_BASE="30s") as gateway,
    ):
        gateway.manage("shell", "-v0", "-c", MAKE_STAFF.format(staff=json.dumps(STAFF), password=PASSWORD))
        command = [sys.executable, "-m", "benchmarks.seed_leads", str(leads), "--yes"]
        subprocess.run(command, env=gateway.env, cwd=ROOT, check=True)
        gateway.manage("hourly_statistics")
        yield gateway


def sign_in(browser: Browser, gateway: Gateway, name: str, *, language: str, theme: str, width: int) -> Page:
    """Return a page of a user who is signed in."""
    context = browser.new_context(
        base_url=gateway.url,
        locale={"de": "de-DE", "en": "en-GB"}[language],
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": width, "height": 900},
    )
    page = context.new_page()
    page.goto("/admin/login/?next=/admin/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", PASSWORD)
    page.click("#login-form [type=submit]")
    page.wait_for_url("**/admin/")
    return page


def take(page: Page, path: str, file: Path, *, height: int | None = None) -> None:
    """Take a picture of a page, whole or its upper part. Report an error, and a page that is wider than its window."""
    if height:
        page.set_viewport_size({"width": WIDTHS["wide"], "height": height})
    response = page.goto(path)
    page.wait_for_timeout(300)
    page.screenshot(path=file, full_page=height is None)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    status = response.status if response else 0
    if status != 200 or wide > 0:
        print(f"{file.name}: status {status}, {wide} px too wide")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--leads", type=int, default=3000)
    parser.add_argument("--readme", action="store_true", help="only the pictures of the documentation")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    with sample_gateway(options.leads) as gateway, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(program("chromium", package="chromium")), args=[*CHROMIUM_ARGS]
        )
        wanted = pages(gateway)
        if options.readme:
            page = sign_in(browser, gateway, "otto", language="en", theme="light", width=1280)
            for name, height in IN_THE_README.items():
                take(page, wanted[name], options.directory / f"{name}.png", height=height)
            return
        for language in ("en", "de"):
            for theme in ("light", "dark"):
                for where, width in WIDTHS.items():
                    page = sign_in(browser, gateway, "root", language=language, theme=theme, width=width)
                    for name, path in wanted.items():
                        take(page, path, options.directory / f"{name}-{language}-{theme}-{where}.png")


if __name__ == "__main__":
    main()
