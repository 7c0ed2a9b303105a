"""Auditors export the list; the export is recorded in the audit log."""

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
    lead_id = gateway.accept(payload(name='=HYPERLINK("http://evil.example")', zipcode="66999"))
    gateway.wait_for("DELIVERED", lead_id)
    return lead_id


def download(page: Page, button: str) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path())


def test_the_shown_list_is_exported_and_recorded(sign_in: SignIn, gateway: Gateway, lead_id: int) -> None:
    page = sign_in("ada")
    page.goto(f"{LEADS}?status=DELIVERED")

    rows = list(csv.reader(download(page, "CSV").read_text(encoding="utf-8-sig").splitlines()))
    assert str(lead_id) in [row[0] for row in rows]
    assert [cell for row in rows[1:] for cell in row if cell.startswith(("=", "+", "@"))] == []

    records = [json.loads(line) for line in download(page, "JSON Lines").read_text().splitlines()]
    [record] = [record for record in records if record.get("id") == lead_id]
    assert record["raw_payload"]["zipcode"] == "66999"

    event = gateway.rows("SELECT * FROM lead_event WHERE kind = 'exported' ORDER BY id LIMIT 1")[0]
    assert (event["actor"], event["lead_id"], event["detail"]["format"]) == ("ada", None, "csv")
    page.goto("/admin/leads/leadevent/?kind=exported")
    expect(page.locator("#result_list")).to_contain_text("ada")
