import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission, User
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.admin import export
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"


def client_of(group: str, *permissions: str) -> Client:
    user = User.objects.create_user("paula", is_staff=True)
    user.groups.set(Group.objects.filter(name=group))
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def auditor() -> Client:
    return client_of("Auditor")


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


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_a_table_has_the_leads_with_their_columns(auditor: Client) -> None:
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


def test_json_lines_have_the_payloads_whole(auditor: Client) -> None:
    raw = make.payload(comment="äöü 🙂 \u2028 " + "x" * 200_000, nested={"a": [1, None, {"b": True}]})
    lead = make.lead(status=LeadStatus.FAILED, raw_payload=raw, source_headers={"User-Agent": "FormTool"})
    plain = make.lead()

    with_payloads, without = records(auditor)

    assert with_payloads["raw_payload"] == raw
    assert with_payloads["customer_payload"] == lead.customer_payload
    assert with_payloads["source_headers"] == {"User-Agent": "FormTool"}
    assert with_payloads["idempotency_key"] == str(lead.idempotency_key)
    assert (without["id"], without["normalized_payload"], without["attempts_made"]) == (plain.pk, None, 0)


def test_the_leads_are_those_of_the_list(auditor: Client) -> None:
    wanted = [make.lead(status=LeadStatus.REJECTED, search_name="erika mustermann").pk for _ in range(60)]
    make.lead(status=LeadStatus.REJECTED, search_name="max musterfrau")
    make.lead(search_name="erika mustermann")

    assert [record["id"] for record in records(auditor, "?status=REJECTED&q=mustermann&p=2&o=-2")] == wanted


def test_a_list_without_leads_is_a_file_without_leads(auditor: Client) -> None:
    make.lead()

    assert records(auditor, "status=REJECTED") == []
    assert table(auditor, "status=REJECTED") == []


@pytest.mark.parametrize("sign", [*"=+-@\t\r\n＝＋－＠"])
def test_no_cell_is_a_formula(auditor: Client, sign: str) -> None:
    evil = sign + 'HYPERLINK("http://evil.example";"x")'
    make.lead(search_name=evil, search_zipcode=sign + "1", rejection_reason=evil, last_answer="a=b")

    (row,) = table(auditor)

    assert row["search_name"] == row["rejection_reason"] == f"'{evil}"
    assert row["search_zipcode"] == f"'{sign}1"
    assert row["last_answer"] == "a=b"


CELLS = st.text(st.sampled_from("=+-@\t\r\n＝＋－＠;,'\"1a ") | st.characters(exclude_categories=("Cs",)), max_size=8)


@given(st.lists(st.fixed_dictionaries({"a": CELLS | st.none() | st.integers(), "b": CELLS}), max_size=3))
def test_whatever_is_in_a_table_comes_back_and_is_no_formula(rows: list[dict[str, Any]]) -> None:
    text = "".join(export._csv(rows)).removeprefix("\ufeff")
    _head, *cells, _end = csv.reader(io.StringIO(text, newline=""))

    assert not [cell for row in cells for cell in row if cell.startswith(export._FORMULA) and not _is_number(cell)]
    assert [[cell.removeprefix("'") for cell in row] for row in cells] == [
        ["" if value is None else str(value).removeprefix("'") for value in row.values()] for row in rows
    ]


def _is_number(cell: str) -> bool:
    return cell.removeprefix("-").isascii() and cell.removeprefix("-").isdigit()


def test_a_cell_may_hold_what_separates_cells(auditor: Client) -> None:
    name = 'a,"b";c\nd'
    make.lead(search_name=name)

    assert table(auditor)[0]["search_name"] == name
    assert table(auditor, **{"accept-language": "de"})[0]["search_name"] == name


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


# --- how it comes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("csv", "text/csv"), ("jsonl", "application/x-ndjson")])
def test_it_is_a_file_with_the_day_in_its_name(auditor: Client, name: str, kind: str) -> None:
    with time_machine.travel(datetime(2026, 1, 20, 23, 30, tzinfo=UTC), tick=False):  # the 21st in Berlin
        client = client_again(auditor)
        response = client.post(reverse("admin:leads_export"), {"format": name})

    assert response.headers["Content-Disposition"] == f'attachment; filename="leads-2026-01-21.{name}"'
    assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert "no-store" in response.headers["Cache-Control"]


def client_again(client: Client) -> Client:
    """Sign in anew: a session made before a journey through time may have run out."""
    client.force_login(User.objects.get())
    return client


def test_it_comes_in_parts(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CHUNK", 10)
    for _ in range(35):
        make.lead()

    response: Any = auditor.post(reverse("admin:leads_export"), {"format": "csv"})

    assert response.streaming
    assert [part.count(b"\n") for part in response.streaming_content] == [10, 10, 10, 7]


def test_it_takes_as_many_queries_however_long_it_is(auditor: Client) -> None:
    taken = []
    for number in (10, 50):
        for _ in range(number):
            make.attempt()
        with CaptureQueriesContext(connection) as queries:
            exported(auditor)
        taken.append(len(queries))

    assert taken[0] == taken[1]


# --- who, and what is written down -----------------------------------------------------------------------------------


def test_the_trail_says_who_exported_what(auditor: Client) -> None:
    for _ in range(3):
        make.lead(status=LeadStatus.FAILED, search_name="erika mustermann")

    exported(auditor, "csv", "status=FAILED&q=mustermann")

    event = LeadEvent.objects.get()
    assert (event.kind, event.lead, event.correlation_id, event.actor) == (EventKind.EXPORTED, None, None, "paula")
    assert event.detail == {"format": "csv", "leads": 3, "selection": "status=FAILED&search=1"}


def test_it_is_written_down_before_the_first_lead_leaves(auditor: Client) -> None:
    make.lead()

    auditor.post(reverse("admin:leads_export"), {"format": "csv"})

    assert LeadEvent.objects.get().kind == EventKind.EXPORTED


def test_nothing_leaves_that_cannot_be_written_down(auditor: Client) -> None:
    make.lead()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE lead_event RENAME TO elsewhere")

    with pytest.raises(DatabaseError):
        auditor.post(reverse("admin:leads_export"), {"format": "csv"})


@pytest.mark.parametrize("group", ["Support", "Operator"])
def test_other_roles_may_not(group: str) -> None:
    client = client_of(group)
    make.lead()

    assert client.post(reverse("admin:leads_export"), {"format": "csv"}).status_code == 403
    assert "JSON Lines" not in client.get(LEADS).text
    assert not LeadEvent.objects.exists()


def test_who_may_export_but_not_look_may_not() -> None:
    assert client_of("", "export_lead").post(reverse("admin:leads_export"), {"format": "csv"}).status_code == 403


def test_strangers_may_not(client: Client) -> None:
    assert client.post(reverse("admin:leads_export"), {"format": "csv"}).status_code == 302


def test_a_link_exports_nothing(auditor: Client) -> None:
    assert auditor.get(reverse("admin:leads_export"), {"format": "csv"}).status_code == 405
    assert not LeadEvent.objects.exists()


def test_a_foreign_page_exports_nothing() -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("root"))

    assert strict.post(reverse("admin:leads_export"), {"format": "csv"}).status_code == 403


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
def test_what_cannot_be_exported_is_refused(auditor: Client, data: dict[str, str]) -> None:
    make.lead()

    assert auditor.post(reverse("admin:leads_export"), data).status_code == 400
    assert not LeadEvent.objects.exists()


def test_the_list_offers_what_it_lists(auditor: Client) -> None:
    page = auditor.get(LEADS, {"q": "nobody", "status": "FAILED"}).text

    assert '<input type="hidden" name="query" value="?q=nobody&amp;status=FAILED">' in page
    assert f'action="{reverse("admin:leads_export")}"' in page


def test_an_export_changes_no_lead(auditor: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED)
    before = InboundLead.objects.values().get(pk=lead.pk)

    exported(auditor)

    assert InboundLead.objects.values().get(pk=lead.pk) == before
