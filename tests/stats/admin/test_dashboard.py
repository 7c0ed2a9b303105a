"""The admin's first page, through its door."""

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from leadgateway import queue
from leads.models import LeadStatus
from stats.models import Heartbeat
from tests import make

pytestmark = pytest.mark.django_db

URL = "/admin/"


@pytest.fixture(autouse=True)
def _nothing_is_kept_and_the_queue_holds_three(monkeypatch):
    cache.clear()
    monkeypatch.setattr(queue, "depth", lambda: 3)
    yield
    cache.clear()


@pytest.fixture
def as_role():
    """A function that returns a client of somebody in a group; without one of nobody in particular."""

    def signed_in(role: str = "") -> Client:
        user = User.objects.create_user(role.lower() or "nobody", is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
        client = Client()
        client.force_login(user)
        return client

    return signed_in


@pytest.fixture
def support(as_role) -> Client:
    return as_role("Support")


def ago(**parts):
    return timezone.now() - timedelta(**parts)


def seen(name, kind, seen_at=None):
    return Heartbeat.objects.create(name=name, kind=kind, started_at=ago(days=1), seen_at=seen_at or timezone.now())


def everybody_lives():
    seen("celery@host", "worker")
    seen("beat@host", "beat")


def page(client, window=None):
    """Return the text of the page, without its HTML, and with single spaces."""
    response = client.get(URL, {"window": window} if window else {})
    assert response.status_code == 200
    main = response.content.decode().partition('id="main"')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def links(client, text):
    """Return the addresses of the links with that text, their parameters read."""
    html = client.get(URL).content.decode()
    found = re.findall(rf'<a [^>]*href="([^"]*)"[^>]*>\s*{text}', html)
    parts = [urlsplit(address.replace("&amp;", "&")) for address in found]
    return [(part.path, {name: values[0] for name, values in parse_qs(part.query).items()}) for part in parts]


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_all_is_well_is_said(support):
    everybody_lives()
    make.lead(status=LeadStatus.DELIVERED)

    text = page(support)

    assert "No problems" in text
    assert "Problem:" not in text


def test_without_heartbeats_worker_and_beat_are_missed(support):
    text = page(support)

    assert "Problem: No worker is running" in text
    assert "docker-compose up -d worker" in text
    assert "Problem: Beat is not running" in text
    assert "No problems" not in text


def test_a_silent_process_is_shown_with_its_last_heartbeat(support):
    seen("celery@host", "worker", ago(minutes=3))
    seen("beat@host", "beat", ago(minutes=2))

    text = page(support)

    assert "No worker is running; the last heartbeat was 3 min" in text
    assert "Beat is not running; its last heartbeat was 2 min" in text


def test_a_silent_worker_beside_a_living_one_wants_a_look(support):
    everybody_lives()
    seen("celery@lost", "worker", ago(hours=1))

    text = page(support)

    assert "1 worker stopped unexpectedly" in text
    assert "celery@lost" in text
    assert "Problem:" not in text


def test_a_second_beat_is_told_of(support):
    everybody_lives()
    seen("beat@other", "beat")

    assert "More than one beat process is running" in page(support)


@pytest.mark.parametrize(("kind", "hint"), [("redis", "REDIS_URL"), ("database", "VAR_DIR")])
def test_a_queue_that_is_away_is_told_of(support, monkeypatch, settings, kind, hint):
    def away():
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "depth", away)
    settings.QUEUE_TYPE = kind

    text = page(support)

    assert "Problem: The queue cannot be reached" in text
    assert hint in text


def test_leads_that_nobody_takes_are_told_of(support):
    everybody_lives()
    make.lead(next_attempt_at=ago(minutes=5))
    make.lead(next_attempt_at=ago(minutes=2))

    assert "Problem: 2 leads are late: the first has been due for 5 min" in page(support)


@pytest.mark.parametrize(("hours", "expected"), [(1, False), (3, True)])
def test_a_lead_that_should_long_be_delivered_is_told_of(support, hours, expected):
    everybody_lives()
    waits = {"status": LeadStatus.FAILED, "next_attempt_at": timezone.now() + timedelta(minutes=1)}
    lead = make.lead(received_at=ago(hours=hours), **waits)
    make.lead(received_at=ago(days=9), uncounted_attempts=5, **waits)  # redelivered just now

    assert ("Problem: A lead is still undelivered 3 h after it was received" in page(support)) is expected
    assert bool(links(support, f"Lead {lead.pk}")) is expected


def test_problems_come_before_what_wants_a_look(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")

    text = page(support)

    assert text.index("Beat is not running") < text.index("1 lead needs attention")


# --- now -------------------------------------------------------------------------------------------------------------


def test_the_oldest_undelivered_lead_is_linked(support):
    lead = make.lead(received_at=ago(minutes=3), next_attempt_at=timezone.now())
    make.lead(received_at=ago(days=3), status=LeadStatus.DELIVERED)

    assert links(support, f"Lead {lead.pk}") == [(reverse("admin:leads_inboundlead_change", args=[lead.pk]), {})]
    assert "Oldest undelivered 3 min" in page(support)


def test_the_queue_and_the_living_are_counted(support):
    everybody_lives()
    seen("celery@other", "worker")

    text = page(support)

    assert "Queue 3 leads waiting" in text
    assert "Workers 2 running" in text
    assert "Beat running" in text


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _failures():
    for answer, number in (("503", 3), ("timeout", 2), (None, 1)):
        for _ in range(number):
            make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=answer)


@pytest.mark.usefixtures("_failures")
def test_failures_are_grouped_by_answer_each_with_its_list(support):
    text = page(support)

    assert re.search(r"HTTP 503 3 leads .* timed out 2 leads .* No response yet 1 lead ", text)
    answers = [query.get("answer") for _path, query in links(support, "Show") if "answer" in query]
    assert answers == ["503", "timeout", "never"]
    assert {query["situation"] for _path, query in links(support, "Show")} == {"attention"}


@pytest.mark.usefixtures("_failures")
def test_the_lists_have_the_leads_that_were_counted(support):
    make.lead(status=LeadStatus.DELIVERED, last_answer=None)

    shown = [support.get(path, query).context["cl"].result_count for path, query in links(support, "Show")]

    assert shown == [6, 3, 2, 1]


@pytest.mark.usefixtures("_failures")
def test_an_operator_may_order_for_a_group(as_role):
    operator = as_role("Operator")

    orders = links(operator, "Redeliver this group")

    redeliver = reverse("admin:leads_bulk_action", args=["redeliver"])
    assert orders[0] == (redeliver, {"situation": "attention", "answer": "503"})
    assert orders[1] == (redeliver, {"situation": "attention", "answer": "timeout"})
    reprocess = reverse("admin:leads_bulk_action", args=["reprocess"])
    assert links(operator, "Reprocess this group") == [(reprocess, {"situation": "attention", "answer": "never"})]


@pytest.mark.usefixtures("_failures")
@pytest.mark.parametrize("role", ["Support", "Auditor"])
def test_who_may_not_act_is_offered_no_order(as_role, role):
    client = as_role(role)

    assert links(client, "Redeliver this group") == links(client, "Reprocess this group") == []
    assert links(client, "Show")


def test_many_answers_are_cut_and_counted(support):
    for number in range(13):
        make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=f"answer {number}")

    assert "3 more responses with fewer leads." in page(support)


def test_a_hostile_answer_is_shown_as_text(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="<script>alert(1)</script>\u202e&answer=x")

    html = support.get(URL).content.decode()

    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in html
    [query] = [query for _path, query in links(support, "Show") if "answer" in query]
    assert query["answer"] == "<script>alert(1)</script>\u202e&answer=x"


# --- the window ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "expected"), [("24h", 1), ("7d", 2), ("30d", 3), (None, 1), ("<x>", 1), ("1e9", 1)])
def test_the_window_is_chosen_by_the_address(support, window, expected):
    for days in (0, 3, 20, 99):
        make.lead(received_at=ago(days=days))

    assert f"{expected} lead{'s' * (expected > 1)} in the last" in page(support, window)


def test_the_chosen_window_is_marked(support):
    make.lead()

    html = support.get(URL, {"window": "7d"}).content.decode()

    assert re.findall(r'href="\?window=(\w+)" aria-current="page"', html) == ["7d"]


def test_numbers_are_in_the_legend_and_in_a_table(support):
    for status, number in ((LeadStatus.DELIVERED, 3), (LeadStatus.REJECTED, 1)):
        for _ in range(number):
            make.lead(status=status)

    text = page(support)

    assert "Delivered 3 75.0 %" in text
    assert "Rejected 1 25.0 %" in text
    assert re.search(
        r"Received Delivered Rejected Ready Received Failed Permanently failed Total .* 3 1 0 0 0 0 4 ", text
    )


def test_the_chart_is_described_to_who_cannot_see_it(support):
    make.lead()

    assert re.search(r'role="img" aria-label="1 lead in the last 24 hours, [^"]+"', support.get(URL).content.decode())


def test_success_is_the_share_of_the_delivered_and_never_rounded_up(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")
    at = ago(minutes=1)
    for _ in range(2):
        make.lead(status=LeadStatus.DELIVERED, received_at=at, delivered_at=at + timedelta(seconds=1.5))

    text = page(support)

    assert "Delivery success 66.6 % 2 delivered, 1 permanently failed" in text
    assert "Median delivery time 1.5 s" in text


def test_rejection_reasons_lead_to_their_leads(support):
    make.lead(status=LeadStatus.REJECTED, rejection_reason="NOT_HOMEOWNER")

    [(_path, query)] = links(support, "<bdi>NOT_HOMEOWNER")
    assert query == {"status": "REJECTED", "reason": "NOT_HOMEOWNER"}


def test_numbers_are_written_as_the_reader_is_used_to_but_not_where_machines_read(support):
    leads = [make.lead() for _ in range(2)]
    leads[0].__class__.objects.bulk_create([leads[0].__class__(raw_payload={}) for _ in range(1200)])

    html = support.get(URL, headers={"accept-language": "de"}).content.decode()

    assert "<strong>1.202</strong>" in html
    assert "height: calc(100% * 1202 / 2000)" in html


def test_a_quiet_window_says_so(support):
    make.lead(received_at=ago(days=9))

    text = page(support)

    assert "No leads were received in the last 24 hours." in text
    assert "Delivery success" not in text


def test_before_the_first_lead_it_says_how_to_send_one(support, settings):
    settings.ENABLE_AUTH, settings.SHARED_SECRETS = True, ["a-real-secret"]

    html = support.get(URL).content.decode()

    assert "No leads yet" in html
    assert "curl -X POST http://testserver/webhooks/leads" in html
    assert "X-Shared-Secret: $SHARED_SECRET" in html
    assert "a-real-secret" not in html


# --- the page itself -------------------------------------------------------------------------------------------------


def test_it_refreshes_itself_by_one_element(support):
    make.lead()

    html = support.get(URL).content.decode()

    assert re.findall(r'id="([\w-]+)" data-refresh="(\d+)"', html) == [("dashboard", "15")]
    assert '<details id="numbers">' in html


@pytest.mark.parametrize("role", ["Support", "Operator", "Auditor"])
def test_every_role_sees_the_figures(as_role, role):
    assert "Oldest undelivered" in page(as_role(role))


def test_who_may_not_see_leads_sees_no_figures(as_role):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")
    seen("celery@host", "worker")

    html = as_role().get(URL).content.decode()

    assert "No access yet" in html
    for part in ("503", "celery@host", "Oldest undelivered", "data-refresh"):
        assert part not in html


def test_no_personal_data_is_on_it(support):
    make.lead(
        status=LeadStatus.PERMANENTLY_FAILED,
        last_answer="503",
        raw_payload=make.payload(email="erika@example.com"),
        search_email="erika@example.com",
        search_phone=make.PHONE,
        search_name="erika mustermann",
    )

    html = support.get(URL).content.decode().lower()

    for part in ("erika", make.PHONE[1:]):
        assert part not in html


def test_the_number_of_queries_does_not_grow(support):
    def count_queries():
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            support.get(URL)
        return len(queries)

    def fill(number):
        for each in range(number):
            make.attempt(
                make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=f"{each}", received_at=ago(hours=1))
            )
            make.lead(status=LeadStatus.DELIVERED, received_at=ago(hours=1), delivered_at=timezone.now())
            make.lead(status=LeadStatus.REJECTED, rejection_reason=f"reason {each}")
            seen(f"celery@{number}-{each}", "worker")

    count_queries()  # what a process looks up once
    fill(2)
    few = count_queries()
    fill(12)

    assert count_queries() == few
