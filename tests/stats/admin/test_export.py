import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from leads.models import EventKind, LeadEvent, LeadStatus
from stats.admin import export
from tests import make
from tests.stats.admin.pages import LEADS, client_of

pytestmark = pytest.mark.django_db


def exported(client: Client, name: str = "jsonl", query: str = "", **headers: str) -> str:
    response = client.post(reverse("admin:leads_export"), {"format": name, "query": query}, headers=headers)
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def records(client: Client, query: str = "") -> list[dict[str, Any]]:
    *lines, last = exported(client, query=query).splitlines()
    assert json.loads(last) == {"end_of_export": True, "leads": len(lines)}
    return [json.loads(line) for line in lines]


def table(client: Client, query: str = "", **headers: str) -> list[dict[str, str]]:
    text = exported(client, "csv", query, **headers)
    assert text.startswith("\ufeffid")
    rows = list(
        csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=";" if "de" in headers.values() else ",")
    )
    assert rows[-1] == [f"# end of export: {len(rows) - 2} leads"]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:-1]]


# --- content ---------------------------------------------------------------------------------------------------------


def test_a_csv_file_has_the_columns_of_the_leads(auditor: Client) -> None:
    at = datetime(2026, 1, 21, 10, 30, tzinfo=UTC)
    lead = make.lead(
        status=LeadStatus.DELIVERED,
        received_at=at,
        delivered_at=at,
        last_answer="200",
        search_email="erika@example.com",
        search_phone="015112345678",
        search_name="erika mustermann",
        search_zipcode="66111",
    )
    for _ in range(2):
        make.attempt(lead)

    assert table(auditor) == [
        {
            "id": str(lead.pk),
            "received_at": "2026-01-21T10:30:00Z",
            "status": "DELIVERED",
            "rejection_reason": "",
            "last_answer": "200",
            "next_attempt_at": "",
            "delivered_at": "2026-01-21T10:30:00Z",
            "resolved_at": "",
            "search_phone": "015112345678",
            "search_email": "erika@example.com",
            "search_name": "erika mustermann",
            "search_zipcode": "66111",
            "correlation_id": str(lead.correlation_id),
            "idempotency_key": str(lead.idempotency_key),
            "attempts_made": "2",
        }
    ]


def test_json_lines_have_whole_payloads(auditor: Client) -> None:
    raw = make.payload(comment="äöü 🙂 \u2028 " + "x" * 200_000, nested={"a": [1, None, {"b": True}]})
    lead = make.lead(status=LeadStatus.FAILED, raw_payload=raw, source_headers={"User-Agent": "FormTool"})
    plain = make.lead()

    with_payloads, without = records(auditor)

    assert with_payloads["raw_payload"] == raw
    assert with_payloads["customer_payload"] == lead.customer_payload
    assert with_payloads["source_headers"] == {"User-Agent": "FormTool"}
    assert with_payloads["idempotency_key"] == str(lead.idempotency_key)
    assert (without["id"], without["normalized_payload"], without["attempts_made"]) == (plain.pk, None, 0)


def test_the_file_has_all_leads_of_the_list(auditor: Client) -> None:
    wanted = [make.lead(status=LeadStatus.REJECTED, search_name="erika mustermann").pk for _ in range(60)]
    make.lead(status=LeadStatus.REJECTED, search_name="max musterfrau")
    make.lead(search_name="erika mustermann")

    assert records(auditor, "status=READY") == table(auditor, "status=READY") == []
    with CaptureQueriesContext(connection) as few:
        assert len(records(auditor, "?status=REJECTED&q=musterfrau")) == 1
    with CaptureQueriesContext(connection) as many:
        assert [record["id"] for record in records(auditor, "?status=REJECTED&q=mustermann&p=2&o=-2")] == wanted
    assert len(many) == len(few)


@pytest.mark.parametrize("sign", [*"=+-@\t\r\n＝＋－＠"])
def test_a_cell_is_never_a_formula(auditor: Client, sign: str) -> None:
    evil = sign + 'HYPERLINK("http://evil.example";"x")'
    separators = 'a,"b";c\nd='
    make.lead(search_name=evil, search_zipcode=sign + "1", rejection_reason=evil, search_email=separators)

    (row,) = table(auditor)

    assert row["search_name"] == row["rejection_reason"] == f"'{evil}"
    assert row["search_zipcode"] == f"'{sign}1"
    assert row["search_email"] == separators
    assert table(auditor, **{"accept-language": "de"}) == [row]


def test_without_the_permission_personal_data_is_masked() -> None:
    client = client_of("", "view_inboundlead", "export_lead")
    make.lead(
        status=LeadStatus.FAILED,
        raw_payload=make.payload(email="erika@example.com", phone="015112345678"),
        search_email="erika@example.com",
        search_phone="+4915112345678",
        search_name="erika@example.com",
        source_headers={"X-Contact": "erika@example.com"},
    )

    for text in (exported(client, "csv"), exported(client, "jsonl")):
        assert "erika@" not in text
        assert "12345678" not in text
        assert "@example.com" in text


# --- response --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("csv", "text/csv"), ("jsonl", "application/x-ndjson")])
def test_the_file_has_the_day_in_its_name(name: str, kind: str) -> None:
    with time_machine.travel(datetime(2026, 1, 20, 23, 30, tzinfo=UTC), tick=False):  # the 21st in Berlin
        response = client_of("Auditor").post(reverse("admin:leads_export"), {"format": name})

    assert response.headers["Content-Disposition"] == f'attachment; filename="leads-2026-01-21.{name}"'
    assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert "no-store" in response.headers["Cache-Control"]


def test_the_response_is_streamed_in_parts(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CHUNK", 10)
    for _ in range(35):
        make.lead()

    response: Any = auditor.post(reverse("admin:leads_export"), {"format": "csv"})

    assert response.streaming
    assert [part.count(b"\n") for part in response.streaming_content] == [10, 10, 10, 7]


# --- access and audit log --------------------------------------------------------------------------------------------


def test_the_export_is_recorded(auditor: Client) -> None:
    for _ in range(3):
        make.lead(status=LeadStatus.FAILED, search_name="erika mustermann")

    exported(auditor, "csv", "status=FAILED&q=mustermann")

    event = LeadEvent.objects.get()
    assert (event.kind, event.lead, event.correlation_id, event.actor) == (EventKind.EXPORTED, None, None, "auditor")
    assert event.detail == {"format": "csv", "leads": 3, "selection": "status=FAILED&search=1"}


def test_nothing_is_exported_that_cannot_be_recorded(auditor: Client) -> None:
    make.lead()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE lead_event RENAME TO elsewhere")

    with pytest.raises(DatabaseError):
        auditor.post(reverse("admin:leads_export"), {"format": "csv"})


def test_only_a_post_with_a_token_by_a_user_with_both_permissions_exports(auditor: Client) -> None:
    make.lead()
    url, data = reverse("admin:leads_export"), {"format": "csv"}
    support = client_of("Support")

    assert "JSON Lines" not in support.get(LEADS).text
    assert auditor.get(url, data).status_code == 405
    for client in (support, client_of("", "export_lead"), client_of(None, strict=True)):
        assert client.post(url, data).status_code == 403
    assert not LeadEvent.objects.exists()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"format": "xlsx"},
        {"format": "csv", "query": "raw_payload__x=1"},
        {"format": "csv", "query": "q=a%00"},
        {"format": "csv", "query": "from=nonsense"},
    ],
)
def test_an_invalid_export_is_refused(auditor: Client, data: dict[str, str]) -> None:
    make.lead()

    assert auditor.post(reverse("admin:leads_export"), data).status_code == 400
    assert not LeadEvent.objects.exists()


def test_the_list_offers_its_own_leads(auditor: Client) -> None:
    page = auditor.get(LEADS, {"q": "text", "status": "FAILED"}).text

    assert '<input type="hidden" name="query" value="?q=text&amp;status=FAILED">' in page
    assert f'action="{reverse("admin:leads_export")}"' in page
