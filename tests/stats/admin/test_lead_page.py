"""The page of one lead."""

import html
import json
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize
from tests import make
from tests.stats.admin.pages import HOSTILE, LEADS, client_of
from tests.stats.admin.pages import text_of as text_of_page

pytestmark = pytest.mark.django_db

EMAIL, PHONE = "Erika.Mustermann@example.com", "0151/123 456-78"
#: Parts of the address and the number that are hidden without the permission.
PERSONAL = re.compile(r"rika\.|mustermann@|123 ?456|12345678", re.IGNORECASE)


def page_of(lead: InboundLead) -> str:
    return f"{LEADS}{lead.pk}/change/"


def page(client: Client, lead: InboundLead) -> str:
    response = client.get(page_of(lead))
    assert response.status_code == 200
    return response.text


def text_of(client: Client, lead: InboundLead) -> str:
    return text_of_page(client, page_of(lead))


def personal_lead(**columns: Any) -> InboundLead:
    """Store a lead with personal data in every place that can have some."""
    raw = make.payload(
        email=EMAIL,
        phone=PHONE,
        contact={"mobil": [PHONE], "note": f"write to {EMAIL} or call {PHONE}"},
        number=4915112345678,
        **{EMAIL: " changed", PHONE: 2},
    )
    lead = make.lead(
        status=LeadStatus.FAILED,
        raw_payload=raw,
        customer_payload=make.customer_payload(phone="+4915112345678"),
        source_headers={"Referer": "/?m=erika.mustermann%40example.com&t=%2B4915112345678", "X-Phone": PHONE},
        **columns,
    )
    response = json.dumps({"error": f"{EMAIL} is unknown", "phone": "12345678", EMAIL: [PHONE]})
    make.attempt(lead, response_body=response)
    make.attempt(lead, response_body=f"<p>{EMAIL} {PHONE}</p>")
    make.attempt(lead, response_status=None, success=False, error_message=f"{EMAIL} and {PHONE} are unknown")
    make.event(lead, EventKind.REDELIVERED, actor="otto", detail={"reason": f"{PHONE} called", EMAIL: [EMAIL]})
    make.event(lead, EventKind.MAPPED, detail={"omitted": {EMAIL: f"not {PHONE}"}})
    return lead


# --- access ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead_id", ["0", "9" * 10, "9" * 5000, "abc", "_00", "1e5", "-1", "٣", "3.0"])
def test_an_unknown_lead_is_not_found(operator: Client, lead_id: str) -> None:
    make.lead(id=3)

    assert operator.get(f"{LEADS}{lead_id}/change/").status_code == 404


# --- status ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_status_summary(reader: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED, next_attempt_at=timezone.now() + timedelta(seconds=42.4))
    make.attempt(lead)

    assert "Failed Attempt 1 of 5 failed with HTTP 503; attempt 2 of 5 is due in 42 s." in text_of(reader, lead)


def test_the_page_shows_the_facts(reader: Client) -> None:
    lead = make.lead(
        status=LeadStatus.DELIVERED,
        received_at=make.NOON,
        delivered_at=make.NOON + timedelta(minutes=1),
        mapping_sha256="ab" * 32,
    )
    for _ in range(3):
        make.event(lead, EventKind.DUPLICATE)
    text = text_of(reader, lead)

    assert re.search(r"Received 21 Jan 2026 13:00:00 CET .+? ago Delivered 21 Jan 2026 13:01:00 CET", text)
    assert f"Received again 3 × Correlation ID {lead.correlation_id} Copy" in text
    assert f"Idempotency key {lead.idempotency_key} Copy Mapping file (SHA-256) abababababab" in text


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        ("READY", []),
        ("REJECTED", ["reprocess"]),
        ("DELIVERED", ["redeliver"]),
        ("PERMANENTLY_FAILED", ["redeliver", "reprocess", "resolve"]),
    ],
)
def test_operators_see_the_eligible_actions(operator: Client, status: str, kinds: list[str]) -> None:
    lead = make.lead(status=status)
    offered = re.findall(r'href="(/admin/leads/inboundlead/bulk-action/[^"]+)"', page(operator, lead))

    assert offered == [f"/admin/leads/inboundlead/bulk-action/{kind}/?ids={lead.pk}" for kind in kinds]
    assert [operator.get(url).status_code for url in offered] == [200] * len(kinds)


@pytest.mark.parametrize(
    ("columns", "refreshed"),
    [
        ({"status": "RECEIVED"}, ["lead-live", "lead-payloads"]),
        ({"status": "READY"}, ["lead-live"]),
        ({"status": "FAILED"}, ["lead-live"]),
        ({"status": "FAILED", "next_attempt_at": None}, []),
        ({"status": "DELIVERED"}, []),
    ],
)
def test_the_page_refreshes_itself_while_the_lead_is_in_progress(
    operator: Client, columns: dict[str, Any], refreshed: list[str]
) -> None:
    assert re.findall(r'id="(lead-\w+)" data-refresh="5"', page(operator, make.lead(**columns))) == refreshed


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("RECEIVED", "Normalized None yet: the lead has not been validated."),
        ("REJECTED", "Normalized None: the lead was rejected."),
        ("PERMANENTLY_FAILED", "Sent to the customer None."),
    ],
)
def test_a_missing_payload_is_explained(operator: Client, status: str, text: str) -> None:
    assert text in text_of(operator, make.lead(status=status, customer_payload=None))


# --- timeline --------------------------------------------------------------------------------------------------------


def test_the_timeline_has_events_attempts_and_the_next_step(operator: Client) -> None:
    lead = make.lead(status=LeadStatus.FAILED, received_at=make.NOON)
    make.event(lead, detail={"notes": ["nul_replaced"]})
    make.event(lead, EventKind.ATTEMPT_STARTED, actor="worker", detail={"attempt_no": 1})
    make.attempt(lead, response_body='{"error":"later"}', duration_ms=1234)
    detail = {"attempt_no": 1, "response_status": 503, "next_attempt_in_s": 60.0}
    make.event(lead, EventKind.ATTEMPT_FINISHED, actor="worker", detail=detail)
    make.event(lead, EventKind.REDELIVERED, actor="frau.schneider", now=timezone.now(), detail={"reason": "asked for"})

    text = text_of(operator, lead)

    at = r"21 Jan 2026 13:00:00 CET .+? ago"
    assert re.search(
        rf"Received by webhook NUL characters replaced {at} .{{0,30}}"
        rf"Attempt 1 of 5 Failed HTTP 503 took 1,234 ms; next attempt due after 1 min "
        rf'Customer\'s response {{ "error": "later" }} {at} .{{0,30}}'
        r"Redelivery requested by frau.schneider asked for .+?Next: Attempt 2 of 5 has been due",
        text,
    )


def test_a_long_timeline_shows_its_first_and_last_events(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    lead = make.lead(status=LeadStatus.DELIVERED)
    make.event(lead, EventKind.MAPPED, detail={"omitted": {"house": {"code": "not_allowed"}}})
    LeadEvent.objects.bulk_create(
        LeadEvent(lead=lead, kind="duplicate", actor=f"sender-{number}", at=make.NOON) for number in range(1204)
    )
    make.event(lead)
    with django_assert_max_num_queries(16):
        text = text_of(operator, lead)

    assert re.findall(r"sender-(\d+)", text) == [str(number) for number in (*range(99), *range(1105, 1204))]
    assert "1,006 events not shown Show all events" in text
    assert "not an allowed value" in text.partition("Not sent")[2]


def test_only_the_last_responses_are_shown(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    lead = make.lead(status=LeadStatus.FAILED)
    attempts = [make.attempt(lead, response_body=f"response {number}.") for number in range(25)]
    with django_assert_max_num_queries(16):
        shown = page(operator, lead)

    assert re.findall(r"response (\d+)\.", shown) == [str(number) for number in range(5, 25)]
    assert f"/admin/delivery/deliveryattempt/{attempts[0].pk}/change/" in shown


# --- payloads, headers and commands ----------------------------------------------------------------------------------


def test_the_page_shows_changed_moved_and_omitted_values(operator: Client) -> None:
    raw = make.payload(email=" E@Example.com", newsletter="TRUE", solar_area="50", solar_owner="Vielleicht")
    attributes = [{"name": "solar_area", "value": 50}]
    lead = make.lead(
        status=LeadStatus.DELIVERED,
        raw_payload=raw,
        normalized_payload=normalize(raw),
        customer_payload=make.customer_payload(attributes=attributes),
    )
    make.event(lead, EventKind.MAPPED, detail={"omitted": {"solar_owner": {"code": "null_value"}}})
    make.event(lead, EventKind.MAPPED, detail={"omitted": {"solar_owner": {"code": "not_allowed"}}})
    shown, text = page(operator, lead), text_of(operator, lead)

    assert 'title="changed">≠</span>  &quot;email&quot;: &quot; E@Example.com&quot;,' in shown
    assert 'title="changed">≠</span>  &quot;email&quot;: &quot;e@example.com&quot;,' in shown
    assert 'title="moved">→</span>      &quot;name&quot;: &quot;solar_area&quot;,' in shown
    assert 'email " E@Example.com" "e@example.com" whitespace trimmed, converted to lower case' in text
    assert 'newsletter "TRUE" true text → true or false' in text
    assert "solar_area field solar_area, text → number" in text
    assert "product setting CUSTOMER_PRODUCT_NAME" in text
    assert "solar_owner not an allowed value" in text
    assert "newsletter not in the mapping file" in text


def test_headers_are_shown_in_a_table(operator: Client) -> None:
    lead = make.lead(source_headers={"User-Agent": "FormTool/3.2", "X-Odd-List": ["a", 1]})
    rows = re.findall(
        r"<tr><th scope=\"row\"><bdi>(.+?)</bdi></th><td><bdi>(.+?)</bdi></td></tr>", page(operator, lead)
    )

    assert {("User-Agent", "FormTool/3.2"), ("X-Odd-List", "[&quot;a&quot;, 1]")} <= set(rows)


@pytest.mark.parametrize("headers", [None, "text", [1, {}], {"": None}])
@pytest.mark.parametrize("payload", [[], "text", {}, [1, {"a": []}]])
def test_values_of_any_shape_can_be_shown(reader: Client, headers: Any, payload: Any) -> None:
    lead = InboundLead.objects.create(
        status=LeadStatus.DELIVERED,
        source_headers=headers,
        raw_payload=payload,
        normalized_payload=payload,
        customer_payload=payload,
        rejection_reason="{x} %s",
    )

    assert page(reader, lead)


def test_a_hostile_lead_is_shown_as_text(reader: Client) -> None:
    evil = HOSTILE
    lead = make.lead(
        status=LeadStatus.FAILED,
        raw_payload={"email": evil, "</pre>": evil},
        normalized_payload={"email": f"{evil}x"},
        source_headers={evil: evil},
        rejection_reason=evil,
        next_attempt_at=None,
    )
    make.event(lead, actor=evil, detail={"notes": [evil], evil: evil})
    make.attempt(lead, error_message=evil, response_body=evil)
    make.attempt(lead, error_message=evil, response_body=json.dumps({evil: evil}))
    shown = page(reader, lead)

    assert "<script>alert" not in shown
    assert "&lt;/pre&gt;" in shown


def test_invisible_characters_are_escaped(reader: Client) -> None:
    lead = make.lead(
        raw_payload={"comment": "مرحبا \u202eevil\u2066 zero\u200bwidth \U000e0041"}, source_headers={"A": "\u200e"}
    )
    make.attempt(lead, response_body="\u202e answer \x1b")
    shown = page(reader, lead)

    assert "مرحبا \\u202eevil\\u2066 zero\\u200bwidth \\udb40\\udc41" in shown
    assert not re.search("[\u202e\u2066\u200b\u200e\x1b\U000e0041]", shown)


def test_both_requests_are_shown_as_commands_without_secrets(operator: Client, settings: Any) -> None:
    settings.CUSTOMER_API_URL = "https://u:secret-1@customer.example/x?key=secret-2"
    settings.CUSTOMER_API_TOKEN, settings.SHARED_SECRETS = "secret-3", ["secret-4"]
    lead = make.lead(status=LeadStatus.DELIVERED)
    shown, text = page(operator, lead), text_of(operator, lead)

    assert "curl -sS -X POST http://testserver/webhooks/leads" in text
    assert "curl -sS -X POST 'https://customer.example/x?REDACTED'" in text
    assert '"X-Shared-Secret: $SHARED_SECRET"' in text
    assert '"Authorization: Bearer $CUSTOMER_API_TOKEN"' in text
    assert "secret-" not in shown
    assert len(re.findall(r'data-copy="#curl-\w+" data-copied="Copied">', shown)) == 2


# --- personal data ---------------------------------------------------------------------------------------------------


def test_personal_data_is_masked_for_support_only(support: Client, operator: Client) -> None:
    lead = personal_lead(claim_token=uuid.uuid4())
    masked, shown = (html.unescape(page(client, lead)) for client in (support, operator))

    assert PERSONAL.findall(masked) == []
    assert "E•••@example.com" in masked
    assert "+4915•••••78" in masked
    assert re.findall(r'data-copy="#curl-\w+" data-copied="Copied"( disabled)?', masked) == [" disabled"] * 2
    assert "Not available while e-mail and phone number are masked" in masked
    assert EMAIL in shown
    assert PHONE in shown
    assert "•••" not in shown
    assert "Show personal data" in masked
    assert "Show personal data" not in shown
    assert str(lead.claim_token) not in masked + shown


def reveal(client: Client, lead: InboundLead) -> Any:
    return client.post(f"{LEADS}{lead.pk}/reveal/")


def test_a_reveal_is_recorded_and_shows_only_this_lead(support: Client) -> None:
    lead, other = personal_lead(), personal_lead()
    response = reveal(support, lead)

    assert response.headers["Location"] == page_of(lead)
    event = LeadEvent.objects.latest("pk")
    assert (event.lead_id, event.kind, event.actor, event.detail) == (lead.pk, "revealed", "support", {"minutes": 10})
    shown = html.unescape(page(support, lead))
    assert EMAIL in shown
    assert "•••" not in shown
    assert "Personal data is visible until" in shown
    assert PERSONAL.findall(html.unescape(page(support, other))) == []


def test_a_reveal_ends_after_ten_minutes_or_with_the_permission(support: Client) -> None:
    lead = personal_lead()
    reveal(support, lead)
    session = support.session
    (until,) = session["revealed_leads"].values()
    assert 590 < until - timezone.now().timestamp() <= 600

    session["revealed_leads"] = {str(lead.pk): timezone.now().timestamp() - 0.01}
    session.save()

    assert PERSONAL.findall(html.unescape(page(support, lead))) == []
    reveal(support, lead)
    Group.objects.get(name="Support").permissions.remove(Permission.objects.get(codename="reveal_personal_data"))

    assert PERSONAL.findall(html.unescape(page(support, lead))) == []


def test_a_reveal_needs_a_post_with_a_token_and_a_lead(support: Client) -> None:
    lead = make.lead()
    url = f"{LEADS}{lead.pk}/reveal/"

    assert support.get(url).status_code == 405
    assert [support.post(f"{LEADS}{number}/reveal/").status_code for number in (999, "9" * 30)] == [404, 404]
    assert client_of(None, strict=True).post(url).status_code == 403
    assert not LeadEvent.objects.exists()
