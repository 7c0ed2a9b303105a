"""Auditors: take the list away as a file, which the trail records."""

import csv
import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.e2e.gateway import Gateway
from tests.make import payload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LEADS = "/admin/leads/inboundlead/"


@pytest.fixture(scope="module")
def lead_id(gateway: Gateway) -> int:
    taken = gateway.accept(payload(name='=HYPERLINK("http://evil.example")', zipcode="66999"))
    gateway.wait_for("DELIVERED", taken)
    return taken


def download(page: Page, button: str) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path())


def test_the_list_that_is_shown_is_exported_as_csv(sign_in: SignIn, gateway: Gateway, lead_id: int) -> None:
    page = sign_in("ada")
    page.goto(f"{LEADS}?status=DELIVERED")

    file = download(page, "CSV")

    rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert str(lead_id) in [row[0] for row in rows]
    assert [cell for row in rows[1:] for cell in row if cell.startswith(("=", "+", "@"))] == []


def test_and_as_json_lines_whole(sign_in: SignIn, gateway: Gateway, lead_id: int) -> None:
    page = sign_in("ada")
    page.goto(f"{LEADS}?status=DELIVERED")

    records = [json.loads(line) for line in download(page, "JSON Lines").read_text().splitlines()]

    [record] = [record for record in records if record.get("id") == lead_id]
    assert record["raw_payload"]["zipcode"] == "66999"


def test_the_trail_says_who_exported_what(sign_in: SignIn, gateway: Gateway, lead_id: int) -> None:
    page = sign_in("ada")
    page.goto(f"{LEADS}?status=DELIVERED")
    download(page, "CSV")

    event = gateway.rows("SELECT * FROM lead_event WHERE kind = 'exported' ORDER BY id DESC LIMIT 1")[0]
    assert (event["actor"], event["lead_id"], event["detail"]["format"]) == ("ada", None, "csv")
    page.goto("/admin/leads/leadevent/?kind=exported")
    expect(page.locator("#result_list")).to_contain_text("ada")


def test_an_auditor_may_not_act(sign_in: SignIn, lead_id: int) -> None:
    page = sign_in("ada")
    page.goto(LEADS)

    assert page.locator("select[name=action]").count() == 0
    answer = page.goto(f"{LEADS}bulk-action/redeliver/?ids={lead_id}")
    assert answer is not None
    assert answer.status == 403
