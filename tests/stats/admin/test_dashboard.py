"""The dashboard."""

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from leadgateway import queue
from leads.models import LeadStatus
from stats.models import Heartbeat
from tests import make
from tests.stats.admin.pages import client_of

pytestmark = pytest.mark.django_db

URL = "/admin/"


@pytest.fixture(autouse=True)
def _empty_cache_and_queue(monkeypatch):
    cache.clear()
    monkeypatch.setattr(queue, "depth", lambda: 0)
    yield
    cache.clear()


def ago(**parts):
    return timezone.now() - timedelta(**parts)


def seen(name, kind, seen_at=None):
    return Heartbeat.objects.create(name=name, kind=kind, started_at=ago(days=1), seen_at=seen_at or timezone.now())


def everything_runs():
    seen("celery@host", "worker")
    seen("beat@host", "beat")


def page(client, window=None):
    response = client.get(URL, {"window": window} if window else {})
    assert response.status_code == 200
    main = response.content.decode().partition('id="main"')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def links(client, text):
    """Return the path and the parameters of each link with the text."""
    html = client.get(URL).content.decode()
    found = re.findall(rf'<a [^>]*href="([^"]*)"[^>]*>\s*{text}', html)
    parts = [urlsplit(address.replace("&amp;", "&")) for address in found]
    return [(part.path, {name: values[0] for name, values in parse_qs(part.query).items()}) for part in parts]


# --- banners ---------------------------------------------------------------------------------------------------------


def test_no_problem(support):
    everything_runs()
    make.lead(status=LeadStatus.DELIVERED)

    text = page(support)

    assert "No problems" in text
    assert "Problem:" not in text


def test_stopped_processes_are_problems_and_are_shown_first(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")

    text = page(support)
    assert "Problem: No worker is running" in text
    assert "docker-compose up -d worker" in text
    assert text.index("Problem: Beat is not running") < text.index("1 lead needs attention")
    assert "No problems" not in text

    cache.clear()
    seen("celery@host", "worker", ago(minutes=3))
    seen("beat@host", "beat", ago(minutes=2))
    text = page(support)
    assert "No worker is running; the last heartbeat was 3 min" in text
    assert "Beat is not running; its last heartbeat was 2 min" in text


def test_a_stopped_worker_beside_a_running_one_and_a_second_beat_are_warnings(support):
    everything_runs()
    seen("celery@lost", "worker", ago(hours=1))
    seen("beat@other", "beat")

    text = page(support)

    assert "1 worker stopped unexpectedly" in text
    assert "celery@lost" in text
    assert "More than one beat process is running" in text
    assert "Problem:" not in text


@pytest.mark.parametrize(("kind", "hint"), [("redis", "REDIS_URL"), ("database", "VAR_DIR")])
def test_an_unavailable_queue_and_late_leads_are_problems(support, monkeypatch, settings, kind, hint):
    def unavailable():
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "depth", unavailable)
    settings.QUEUE_TYPE = kind
    everything_runs()
    make.lead(next_attempt_at=ago(minutes=5))
    make.lead(next_attempt_at=ago(minutes=2))

    text = page(support)

    assert "Problem: The queue cannot be reached" in text
    assert hint in text
    assert "Problem: 2 leads are late: the first has been due for 5 min" in text


@pytest.mark.parametrize(("hours", "expected"), [(1, False), (3, True)])
def test_a_lead_that_is_undelivered_after_all_attempts_is_a_problem(support, hours, expected):
    everything_runs()
    waits = {"status": LeadStatus.FAILED, "next_attempt_at": timezone.now() + timedelta(minutes=1)}
    lead = make.lead(received_at=ago(hours=hours), **waits)
    make.lead(received_at=ago(days=9), uncounted_attempts=5, **waits)  # redelivered just now

    assert ("Problem: A lead is still undelivered 3 h after it was received" in page(support)) is expected
    assert bool(links(support, f"Lead {lead.pk}")) is expected


# --- current state ---------------------------------------------------------------------------------------------------


def test_the_tiles_show_the_current_state(support):
    everything_runs()
    seen("celery@other", "worker")
    lead = make.lead(received_at=ago(minutes=3), next_attempt_at=timezone.now())
    for _ in range(3):
        make.lead(next_attempt_at=ago(seconds=1), enqueued_at=ago(seconds=1))
    make.lead(received_at=ago(days=3), status=LeadStatus.DELIVERED)

    text = page(support)

    for tile in ("Oldest undelivered 3 min", "Queue 3 leads waiting", "Workers 2 running", "Beat running"):
        assert tile in text
    assert links(support, f"Lead {lead.pk}") == [(reverse("admin:leads_inboundlead_change", args=[lead.pk]), {})]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _failures():
    for answer, number in (("503", 3), ("timeout", 2), (None, 1)):
        for _ in range(number):
            make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=answer)


@pytest.mark.usefixtures("_failures")
def test_failures_are_grouped_by_response_with_links_to_their_lists(support):
    make.lead(status=LeadStatus.DELIVERED, last_answer=None)
    text = page(support)

    assert re.search(r"HTTP 503 3 leads .* timed out 2 leads .* No response yet 1 lead ", text)
    found = links(support, "Show")
    assert [query for _path, query in found] == [
        {"situation": "attention"},
        *({"situation": "attention", "answer": answer} for answer in ("503", "timeout", "never")),
    ]
    assert [support.get(path, query).context["cl"].result_count for path, query in found] == [6, 3, 2, 1]


@pytest.mark.usefixtures("_failures")
def test_only_an_operator_can_redeliver_or_reprocess_a_group(operator, support):
    redeliver, reprocess = (reverse("admin:leads_bulk_action", args=[kind]) for kind in ("redeliver", "reprocess"))

    assert links(operator, "Redeliver this group")[:2] == [
        (redeliver, {"situation": "attention", "answer": answer}) for answer in ("503", "timeout")
    ]
    assert links(operator, "Reprocess this group") == [(reprocess, {"situation": "attention", "answer": "never"})]
    assert links(support, "Redeliver this group") == links(support, "Reprocess this group") == []


def test_only_the_largest_groups_are_shown(support):
    for number in range(13):
        make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer=f"answer {number}")

    assert "3 more responses with fewer leads." in page(support)


def test_a_hostile_response_is_shown_as_text(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="<script>alert(1)</script>\u202e&answer=x")

    html = support.get(URL).content.decode()

    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in html
    [query] = [query for _path, query in links(support, "Show") if "answer" in query]
    assert query["answer"] == "<script>alert(1)</script>\u202e&answer=x"


# --- the window ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "expected"), [("7d", 2), ("30d", 3), (None, 1), ("<x>", 1)])
def test_the_url_selects_the_window(support, window, expected):
    for days in (0, 3, 20, 99):
        make.lead(received_at=ago(days=days))

    assert f"{expected} lead{'s' * (expected > 1)} in the last" in page(support, window)


def test_the_chart_has_a_description_a_legend_and_a_table(support):
    for status in (*(LeadStatus.DELIVERED,) * 3, LeadStatus.REJECTED):
        make.lead(status=status)

    text = page(support)
    assert "Delivered 3 75.0 %" in text
    assert "Rejected 1 25.0 %" in text
    assert re.search(
        r"Received Delivered Rejected Ready Received Failed Permanently failed Total .* 3 1 0 0 0 0 4 ", text
    )

    html = support.get(URL, {"window": "7d"}).content.decode()
    assert re.search(r'role="img" aria-label="4 leads in the last 7 days, [^"]+"', html)
    assert re.findall(r'href="\?window=(\w+)" aria-current="page"', html) == ["7d"]
    assert re.findall(r'id="([\w-]+)" data-refresh="(\d+)"', html) == [("dashboard", "15")]
    assert '<details id="numbers">' in html


def test_success_is_never_rounded_up(support):
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")
    at = ago(minutes=1)
    for _ in range(2):
        make.lead(status=LeadStatus.DELIVERED, received_at=at, delivered_at=at + timedelta(seconds=1.5))

    text = page(support)

    assert "Delivery success 66.6 % 2 delivered, 1 permanently failed" in text
    assert "Median delivery time 1.5 s" in text


def test_rejection_reasons_link_to_their_leads(support):
    make.lead(status=LeadStatus.REJECTED, rejection_reason="NOT_HOMEOWNER")

    [(_path, query)] = links(support, "<bdi>NOT_HOMEOWNER")
    assert query == {"status": "REJECTED", "reason": "NOT_HOMEOWNER"}


def test_numbers_are_localized_in_text_only(support):
    leads = [make.lead() for _ in range(2)]
    leads[0].__class__.objects.bulk_create([leads[0].__class__(raw_payload={}) for _ in range(1200)])

    html = support.get(URL, headers={"accept-language": "de"}).content.decode()

    assert "<strong>1.202</strong>" in html
    assert "height: calc(100% * 1202 / 2000)" in html


def test_a_window_without_leads(support):
    make.lead(received_at=ago(days=9))

    text = page(support)

    assert "No leads were received in the last 24 hours." in text
    assert "Delivery success" not in text


def test_without_leads_the_page_shows_how_to_send_one(support, settings):
    settings.ENABLE_AUTH, settings.SHARED_SECRETS = True, ["a-real-secret"]

    html = support.get(URL).content.decode()

    assert "No leads yet" in html
    assert "curl -X POST http://testserver/webhooks/leads" in html
    assert "X-Shared-Secret: $SHARED_SECRET" in html
    assert "a-real-secret" not in html


# --- the page --------------------------------------------------------------------------------------------------------


def test_users_who_may_not_view_leads_see_no_numbers():
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503")
    seen("celery@host", "worker")

    html = client_of().get(URL).content.decode()

    assert "No access yet" in html
    for part in ("503", "celery@host", "Oldest undelivered", "data-refresh"):
        assert part not in html


def test_the_page_has_no_personal_data(support):
    keys = {"search_email": "erika@example.com", "search_phone": make.PHONE, "search_name": "erika mustermann"}
    make.lead(status=LeadStatus.PERMANENTLY_FAILED, last_answer="503", **keys)

    html = support.get(URL).content.decode().lower()

    for part in ("erika", make.PHONE[1:]):
        assert part not in html


def test_the_number_of_queries_does_not_depend_on_the_number_of_leads(support):
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

    count_queries()  # fills caches of the process
    fill(2)
    few = count_queries()
    fill(12)

    assert count_queries() == few
