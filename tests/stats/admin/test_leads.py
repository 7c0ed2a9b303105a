import html
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import search_keys
from leads.search import matching
from tests import make

pytestmark = pytest.mark.django_db

LEADS = "/admin/leads/inboundlead/"
EVENTS = "/admin/leads/leadevent/"


@pytest.fixture
def admin_user() -> User:
    """A superuser, without the time that the hash of a password takes."""
    return User.objects.create_superuser("admin")


@pytest.fixture
def staff_client() -> Client:
    """A client of somebody in support, who may look and nothing else."""
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_inboundlead", "view_leadevent"]))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(params=["superuser", "staff"])
def looker(request: pytest.FixtureRequest) -> Client:
    return request.getfixturevalue("admin_client" if request.param == "superuser" else "staff_client")


def page_of(lead: InboundLead) -> str:
    return f"{LEADS}{lead.pk}/change/"


def listed(client: Client, url: str = LEADS, **query: Any) -> list[int]:
    response = client.get(url, query)
    assert response.status_code == 200, response.headers.get("Location")
    return [record.pk for record in response.context["cl"].result_list]


def text_of(client: Client, url: str) -> str:
    """Return what a page says, without its markup."""
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def rows(lead: InboundLead) -> tuple[Any, Any]:
    return InboundLead.objects.filter(pk=lead.pk).values().get(), list(LeadEvent.objects.values())


# --- looking, not touching -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [LEADS, EVENTS])
def test_strangers_are_sent_to_the_login(client: Client, url: str) -> None:
    assert client.get(url).headers["Location"] == f"/admin/login/?next={url}"


def test_staff_without_the_permission_sees_nothing() -> None:
    client = Client()
    client.force_login(User.objects.create_user("intern", is_staff=True))
    lead = make.lead()

    assert [client.get(url).status_code for url in (LEADS, page_of(lead), EVENTS)] == [403, 403, 403]


def test_staff_who_may_see_leads_but_no_events_sees_no_trail(staff_client: Client) -> None:
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_leadevent"))
    event = make.event(detail={"notes": ["a note"]})

    assert "a note" not in text_of(staff_client, page_of(event.lead))


@pytest.mark.parametrize("path", ["{leads}add/", "{leads}{lead}/delete/", "{events}add/", "{events}{event}/delete/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_adds_or_deletes(looker: Client, path: str, method: str) -> None:
    event = make.event()
    before = rows(event.lead)
    url = path.format(leads=LEADS, events=EVENTS, lead=event.lead_id, event=event.pk)

    response = getattr(looker, method)(url, {"post": "yes", "status": "READY"} if method == "post" else {})

    assert response.status_code == 403
    assert rows(event.lead) == before
    assert InboundLead.objects.count() == LeadEvent.objects.count() == 1


def test_nobody_changes_a_lead(looker: Client) -> None:
    event = make.event()
    before = rows(event.lead)

    response = looker.post(page_of(event.lead), {"status": "DELIVERED", "search_name": "x", "_save": "Save"})

    assert response.status_code == 403
    assert rows(event.lead) == before


def test_nobody_changes_an_event(looker: Client) -> None:
    event = make.event()
    before = rows(event.lead)

    response = looker.post(f"{EVENTS}{event.pk}/change/", {"actor": "me", "_save": "Save"})

    assert response.status_code == 403
    assert rows(event.lead) == before


def test_nobody_deletes_in_bulk(looker: Client) -> None:
    event = make.event()
    for url, record in ((LEADS, event.lead), (EVENTS, event)):
        data = {"action": "delete_selected", "_selected_action": [record.pk], "index": "0", "post": "yes"}
        looker.post(url, data)
        looker.post(url, data | {"select_across": "1"})

    assert InboundLead.objects.count() == LeadEvent.objects.count() == 1


def test_pages_offer_nothing_to_change(admin_client: Client) -> None:
    lead = make.event().lead
    offers = re.compile(r'name="(?:_save|action|_addanother|_continue)"|/(?:add|delete|history)/"')
    pages = [admin_client.get(url).text for url in (LEADS, page_of(lead), EVENTS)]

    assert [offers.findall(page.partition('id="content"')[2]) for page in pages] == [[], [], []]


# --- the list --------------------------------------------------------------------------------------------------------


def test_leads_are_listed_newest_first(admin_client: Client) -> None:
    old, new, middle = (make.lead(received_at=make.NOON + timedelta(hours=hours)) for hours in (0, 2, 1))
    same = make.lead(received_at=new.received_at)

    assert listed(admin_client) == [same.pk, new.pk, middle.pk, old.pk]


def test_the_list_says_what_support_needs(admin_client: Client) -> None:
    lead = make.lead(
        received_at=datetime(2026, 1, 21, 10, 30, 0, 123_456, tzinfo=UTC),
        status=LeadStatus.REJECTED,
        rejection_reason="NOT_HOMEOWNER",
        search_phone="+4915112345678",
        search_email="erika@example.com",
        search_zipcode="66111",
    )
    text = text_of(admin_client, LEADS)

    told = f"{lead.pk} 2026-01-21 10:30:00.123 Rejected NOT_HOMEOWNER 0 – +4915112345678 erika@example.com 66111"
    assert f"{told} {str(lead.correlation_id)[:8]} 1 lead" in text
    assert "Received (UTC)" in text


@pytest.mark.parametrize("status", LeadStatus)
def test_every_status_has_a_badge_and_a_colour(admin_client: Client, status: LeadStatus) -> None:
    make.lead(status=status)
    badge = f'<span class="gateway-badge gateway-{status.lower()}">{status.label}</span>'
    stylesheet = b"".join(admin_client.get("/static/leads/admin.css").streaming_content).decode()

    assert badge in admin_client.get(LEADS).text
    assert f".gateway-{status.lower()} {{" in stylesheet


@pytest.mark.parametrize("url", [LEADS, EVENTS])
def test_a_list_takes_as_many_queries_however_long_it_is(
    admin_client: Client, url: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make.event()
    with django_assert_num_queries(4):  # the session, its user, the count, the rows
        assert len(listed(admin_client, url)) == 3
    for _ in range(57):
        make.event()
    with django_assert_num_queries(4):
        assert len(listed(admin_client, url)) == 50


def test_the_list_leaves_the_payloads_in_the_database(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make.lead()
    with django_assert_num_queries(4) as queries:
        listed(admin_client)

    assert not [query for query in queries.captured_queries if "payload" in query["sql"].replace("payload_hash", "")]


# --- searching -------------------------------------------------------------------------------------------------------

ERIKA = {
    "first_name": "Erika",
    "last_name": "Mustermann",
    "email": "Erika.Mustermann@Example.com",
    "phone": "0151 12345678",
    "zipcode": "66111",
}
CORRELATION_ID = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


def lead_of(payload: dict[str, Any], **columns: Any) -> InboundLead:
    keys = {f"search_{name}": value for name, value in vars(search_keys(payload)).items()}
    return make.lead(raw_payload=payload, **{**keys, **columns})


@pytest.mark.parametrize(
    "term",
    [
        "0151/123 456-78",
        "+49 (0)151 12345678",
        "0049 151 12345678",
        "+4915112345678",
        "erika.mustermann@example.com",
        " ERIKA.Mustermann@EXAMPLE.com ",
        "66111",
        "erika  mustermann",
        "Erika Mustermann",
        "550e8400-e29b-41d4-a716-446655440000",
        "550E8400E29B41D4A716446655440000",
        "550e8400",
        "550e8400-e29b",
    ],
)
def test_a_search_finds_the_one_lead(admin_client: Client, term: str) -> None:
    lead = lead_of(ERIKA, correlation_id=CORRELATION_ID)
    lead_of(make.payload(name="Erik Mustermann", phone="0151 12345679"), correlation_id=uuid.uuid4())

    assert listed(admin_client, q=term) == [lead.pk]


@pytest.mark.parametrize("form", ["{}", "#{}", " {} "])
def test_a_search_finds_a_lead_by_its_id(admin_client: Client, form: str) -> None:
    make.lead()
    lead = make.lead()

    assert listed(admin_client, q=form.format(lead.pk)) == [lead.pk]


@pytest.mark.parametrize(
    "term",
    [
        "erika",
        "mustermann@example.com",
        "%",
        "0151 1234567",
        "0151 12345678 Erika",
        "550e840",
        "550e8400-e29b-41d4-a716-446655440001",
        "🙂",
        "'; DROP TABLE inbound_lead; --",
        "\ud800",
        "9" * 10,
        "9" * 5000,
        "a" * 100_000,
        "٣٤٥",
        "²",
    ],
)
def test_a_search_finds_nothing(admin_client: Client, term: str) -> None:
    lead_of(ERIKA, correlation_id=CORRELATION_ID)

    assert listed(admin_client, q=term.encode(errors="surrogatepass")) == []


def test_a_blank_search_lists_everything(admin_client: Client) -> None:
    lead = make.lead()

    assert listed(admin_client, q="  ") == [lead.pk]


def test_a_search_with_nul_is_refused_in_words(admin_client: Client) -> None:
    make.lead()

    assert "Null characters are not allowed" in admin_client.get(LEADS, {"q": "66\0"}).text


@pytest.mark.needs_postgres
def test_a_search_uses_the_indexes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the table is empty, so that it would be read whole
    plan = InboundLead.objects.filter(matching("55008400")).explain()

    assert set(re.findall(r"idx_inbound_lead_\w+", plan)) == {
        f"idx_inbound_lead_{name}" for name in ("correlation", "email", "phone", "zipcode", "name")
    }
    assert "Seq Scan" not in plan


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", LeadStatus)
def test_leads_are_filtered_by_status(admin_client: Client, status: LeadStatus) -> None:
    leads = {each: make.lead(status=each) for each in LeadStatus}

    assert listed(admin_client, status=status) == [leads[status].pk]


def test_leads_are_filtered_by_reason(admin_client: Client) -> None:
    leads = [make.lead(status="REJECTED", rejection_reason=reason) for reason in ("ZIP_NOT_66XXX", "NOT_HOMEOWNER")]

    assert listed(admin_client, reason="NOT_HOMEOWNER") == [leads[1].pk]


def test_leads_are_filtered_by_what_must_be_done(admin_client: Client) -> None:
    waiting = make.lead(status=LeadStatus.FAILED)
    stopped = make.lead(status=LeadStatus.FAILED, next_attempt_at=None)
    given_up = make.lead(status=LeadStatus.PERMANENTLY_FAILED)
    for status in (LeadStatus.RECEIVED, LeadStatus.READY, LeadStatus.DELIVERED, LeadStatus.REJECTED):
        make.lead(status=status)

    assert listed(admin_client, situation="waiting") == [waiting.pk]
    assert listed(admin_client, situation="attention") == [given_up.pk, stopped.pk]


def test_leads_are_filtered_by_the_day_in_utc(admin_client: Client) -> None:
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moments = [midnight - timedelta(days=days, seconds=1) for days in (-1, 0, 1, 6, 30)]
    today, yesterday, before, last_week, long_ago = (make.lead(received_at=at).pk for at in moments)

    assert listed(admin_client, received="today") == [today]
    assert listed(admin_client, received="yesterday") == [yesterday]
    assert listed(admin_client, received="week") == [today, yesterday, before]
    assert listed(admin_client, received="month") == [today, yesterday, before, last_week]
    assert listed(admin_client) == [today, yesterday, before, last_week, long_ago]


def test_filters_can_show_counts(admin_client: Client) -> None:
    make.lead(status=LeadStatus.FAILED)
    make.lead()

    assert "Waiting for retry (1)" in text_of(admin_client, f"{LEADS}?_facets=True")


@pytest.mark.parametrize("parameter", ["status", "situation", "reason", "received", "p", "o", "all", "_facets"])
@pytest.mark.parametrize("value", ["\0", "-1", "9" * 5000, "🙂", "nonsense"])
def test_no_value_in_a_url_breaks_the_list(admin_client: Client, parameter: str, value: str) -> None:
    make.lead()

    assert admin_client.get(LEADS, {parameter: value}).status_code in (200, 302)


@pytest.mark.parametrize(
    "query", ["search_email=%00", "search_email=x", "raw_payload__email=x", "claim_token=x", "events__actor=x"]
)
def test_a_url_cannot_ask_for_other_columns(admin_client: Client, query: str) -> None:
    assert admin_client.get(f"{LEADS}?{query}").status_code == 400


def test_events_are_filtered_by_kind_and_actor_and_found_by_lead(admin_client: Client) -> None:
    lead = make.lead()
    received = make.event(lead).pk
    mapped = make.event(lead, EventKind.MAPPED, actor="worker").pk
    ordered = make.event(lead, EventKind.REDELIVERED, actor="frau.schneider").pk
    other = make.event().pk

    assert listed(admin_client, EVENTS) == [other, ordered, mapped, received]
    assert listed(admin_client, EVENTS, kind="mapped") == [mapped]
    assert listed(admin_client, EVENTS, actor="person") == [ordered]
    assert listed(admin_client, EVENTS, actor="webhook") == [other, received]
    assert listed(admin_client, EVENTS, q=str(lead.pk)) == [ordered, mapped, received]
    assert [listed(admin_client, EVENTS, q=term) for term in ("frau.schneider", "9" * 10, "🙂")] == [[], [], []]


# --- the lead's page -------------------------------------------------------------------------------------------------


def test_the_page_shows_everything_about_a_lead(looker: Client) -> None:
    lead = make.lead(
        status=LeadStatus.FAILED,
        source_headers={"User-Agent": "FormTool/3.2"},
        mapping_sha256="ab" * 32,
        payload_hash="cd" * 32,
        claim_token=uuid.uuid4(),
        claimed_until=datetime(2026, 1, 21, 11, 0, 0, 5000, tzinfo=UTC),
    )
    text = text_of(looker, page_of(lead))

    for value in (lead.correlation_id, lead.idempotency_key, lead.mapping_sha256, lead.payload_hash, lead.claim_token):
        assert str(value) in text
    assert f'"email": "{lead.raw_payload["email"]}"' in text
    assert '"name": "solar_panel_installation"' in text
    assert '"User-Agent": "FormTool/3.2"' in text
    assert "In work until (UTC): 2026-01-21 11:00:00.005" in text


def test_the_trail_is_told_in_order_and_in_words(looker: Client) -> None:
    lead = make.lead()
    omitted = {"solar_area": "not a number"}
    make.event(lead, EventKind.MAPPED, actor="worker", detail={"mapping": "17021452c7", "omitted": omitted})
    make.event(lead, EventKind.ATTEMPT_STARTED, actor="worker", detail={"attempt_no": 2})
    outcome = {
        "attempt_no": 2,
        "response_status": 503,
        "error": "HTTP 503",
        "duration_ms": 88,
        "next_attempt_in_s": 60.0,
    }
    make.event(lead, EventKind.ATTEMPT_FINISHED, actor="worker", detail=outcome)
    LeadEvent.objects.create(
        lead=lead, kind="status", from_status="READY", to_status="FAILED", actor="worker", at=make.NOON
    )
    make.event(lead, EventKind.REDELIVERED, actor="frau.schneider", detail={"reason": "customer asked", "ticket": 7})

    trail = text_of(looker, page_of(lead)).partition("Trail")[2]

    at, short = "2026-01-21 12:00:00.000", str(lead.correlation_id)[:8]
    expected = [
        f"{at} worker Mapped for the customer – mapping file 17021452; left out: solar_area (not a number) {short}",
        f"{at} worker Attempt 2 started – – {short}",
        f"{at} worker Attempt 2 finished – HTTP 503; 88 ms; next attempt in 60 s {short}",
        f"{at} worker Status changed Ready → Failed – –",
        f"{at} frau.schneider Redelivery ordered – customer asked; ticket: 7 {short}",
    ]
    assert " ".join(expected) in trail


@pytest.mark.parametrize("detail", [[], [1], "text", 5, {"omitted": "text", "attributes": {}, "{}": None, "{0}": [{}]}])
def test_a_detail_of_any_shape_can_be_shown(admin_client: Client, detail: Any) -> None:
    lead = make.lead()
    event = LeadEvent.objects.create(lead=lead, kind="received", actor="webhook", detail=detail)

    for url in (page_of(lead), EVENTS, f"{EVENTS}{event.pk}/change/"):
        assert admin_client.get(url).status_code == 200


def test_a_very_long_trail_is_shown_with_both_its_ends(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    lead = make.lead()
    LeadEvent.objects.bulk_create(
        LeadEvent(lead=lead, kind="duplicate", actor=f"sender-{number}", at=make.NOON) for number in range(1205)
    )
    with django_assert_max_num_queries(8):
        text = text_of(admin_client, page_of(lead))

    assert re.findall(r"sender-(\d+)", text) == [str(number) for number in (*range(100), *range(1105, 1205))]
    assert f"Trail (1,005 events are left out here; a search in Events for {lead.pk} lists them all)" in text


def test_a_hostile_payload_stays_text(admin_client: Client) -> None:
    evil = "<script>alert(1)</script>"
    lead = lead_of({"email": evil, "name": evil, "</pre>": evil}, source_headers={"X": evil}, rejection_reason=evil)
    make.event(lead, actor=evil, detail={"notes": [evil], evil: evil})

    for url in (LEADS, page_of(lead), EVENTS, f"{EVENTS}{lead.events.get().pk}/change/"):
        page = admin_client.get(url).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_payload_of_200_kb_is_shown_whole(looker: Client) -> None:
    lines = [f"Zeile {number}: äöü €" for number in range(9800)]
    lead = make.lead(raw_payload={"lines": lines})
    assert len(str(lines)) > 200_000

    text = text_of(looker, page_of(lead))

    assert ", ".join(f'"{line}"' for line in lines) in text


def test_signs_that_turn_text_around_are_seen_and_kept_in_their_block(admin_client: Client) -> None:
    lead = make.lead(raw_payload={"comment": "مرحبا \u202eevil\u2066"})
    page = admin_client.get(page_of(lead)).text

    assert '<pre class="gateway-block" dir="auto">' in page
    assert "مرحبا \\u202eevil\\u2066" in page
    assert "\u202e" not in page


@pytest.mark.parametrize("lead_id", ["0", "9" * 20, "abc", "_00", "1e5"])
def test_a_lead_that_there_is_not_is_no_error(admin_client: Client, lead_id: str) -> None:
    assert admin_client.get(f"{LEADS}{lead_id}/change/").status_code == 302


def test_the_admin_bears_the_gateways_name(admin_client: Client) -> None:
    page = admin_client.get("/admin/").text

    assert "<title>Overview | Lead Gateway</title>" in page
