"""The contract says what the application does: its paths are those of the URLs, and real answers are valid by it."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.urls import URLPattern, URLResolver, get_resolver

from leadgateway import __version__, queue
from leadgateway.env import RateLimit
from leads.models import LeadStatus
from leads.webhook import access, view
from leads.webhook.body import BodyTooSlow
from stats.api import queries
from tests import make
from tests.interface.contract import CONTRACT, HISTORY, PATH, WEBHOOK, ask, assert_kept

COUNTS, RECENT, METRICS = "/stats/leads/counts", "/stats/leads/recent", "/metrics"
HEALTH, READY, DESCRIPTION = "/health", "/health/ready", "/openapi.yaml"

# No transaction around a test: the application closes its connection when it has answered.
pytestmark = pytest.mark.django_db(transaction=True)

GUARDED = [(COUNTS, COUNTS), (RECENT, RECENT), (METRICS, METRICS), (HISTORY, "/stats/leads/1/history")]


@pytest.fixture(autouse=True)
def _own_breaker(monkeypatch):
    monkeypatch.setattr(view, "_breaker", view.Breaker(pause=view.timedelta(seconds=10), after=5))


def post(body=None, **headers):
    data = json.dumps(make.payload()) if body is None else body
    return ask(WEBHOOK, "POST", data=data, headers={name.replace("_", "-"): value for name, value in headers.items()})


# --- the document ----------------------------------------------------------------------------------------------------


def urls(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """Yield every path of the application but the admin's, as the contract writes it."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns) if str(pattern.pattern) != "admin/" else ()
        else:
            path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", str(pattern.pattern))
            yield "/" + path.removeprefix("^").removesuffix(r"/?\Z").replace("\\", "")


def test_every_path_of_the_application_is_described_and_no_other():
    assert set(urls(get_resolver().url_patterns)) == set(CONTRACT)


def test_the_contract_is_openapi():
    CONTRACT.validate()


def test_the_contract_is_that_of_this_version():
    assert CONTRACT.raw_schema["info"]["version"] == __version__


@pytest.mark.parametrize("enable_auth", [True, False])
def test_the_contract_is_given_to_everybody(settings, enable_auth):
    settings.ENABLE_AUTH = enable_auth

    response = ask(DESCRIPTION)

    assert_kept(response, DESCRIPTION)
    assert response.data == PATH.read_bytes()


# --- the webhook -----------------------------------------------------------------------------------------------------


def test_a_receipt_is_as_described_the_second_one_too():
    body = json.dumps(make.payload())

    for duplicate in (None, True):
        response = post(body)

        assert response.json.get("duplicate") is duplicate
        assert_kept(response, WEBHOOK, "POST")


def too_large(settings):
    return b'{"a": "' + b"x" * settings.MAX_PAYLOAD_BYTES + b'"}'


@pytest.mark.parametrize(
    ("status", "send"),
    [
        (400, lambda _: post(b"[]")),
        (400, lambda _: post(Host="evil.example.com")),
        (401, lambda _: post(X_Shared_Secret="wrong")),
        (413, lambda settings: post(too_large(settings), X_Shared_Secret="right")),
    ],
)
def test_a_refusal_is_as_described(settings, status, send):
    settings.ENABLE_AUTH = status in (401, 413)
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["right"], ["portal"]

    response = send(settings)

    assert response.status_code == status
    assert_kept(response, WEBHOOK, "POST")


def test_one_post_too_many_is_told_as_described(settings):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, timedelta(minutes=1))
    access._limiter().storage.reset()
    answers = [post(), post()]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["Retry-After"]) >= 1
    assert_kept(answers[1], WEBHOOK, "POST")


def test_a_body_that_does_not_come_is_told_as_described(monkeypatch):
    def late(*_, **__):
        raise BodyTooSlow

    monkeypatch.setattr("leads.webhook.view.read_body", late)
    response = post()

    assert response.status_code == 408
    assert_kept(response, WEBHOOK, "POST")


def test_a_queue_that_is_away_is_told_as_described(settings, monkeypatch):
    settings.QUEUE_TYPE = "redis"

    def away(*_, **__):
        raise queue.QueueUnavailable

    monkeypatch.setattr(queue, "enqueue", away)
    response = post()

    assert (response.status_code, response.json["error"]) == (503, "queue unavailable")
    assert_kept(response, WEBHOOK, "POST")


@pytest.mark.parametrize(("problem", "status"), [(OperationalError("away"), 503), (RuntimeError("a bug"), 500)])
def test_what_goes_wrong_here_is_told_to_senders_as_described(monkeypatch, problem, status):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(view, "receive", fail)
    response = post()

    assert response.status_code == status
    assert_kept(response, WEBHOOK, "POST")


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _leads_of_every_kind():
    for status in LeadStatus:
        lead = make.lead(status=status, normalized_payload=None if status == LeadStatus.REJECTED else {})
        make.attempt(lead)
        make.attempt(lead, finished_at=None)
        make.attempt(lead, response_status=200)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None, rejection_reason="MISSING_REQUIRED_FIELD")
    make.lead(raw_payload=make.payload(email="anna@example.com"))
    call_command("erase_person", "--email=anna@example.com", "--no-input", verbosity=0)


@pytest.mark.usefixtures("_leads_of_every_kind")
def test_what_is_read_is_as_described():
    for path in (COUNTS, RECENT, METRICS):
        assert_kept(ask(path), path)
    assert_kept(ask(METRICS, headers={"Accept": "application/openmetrics-text; version=1.0.0"}), METRICS)
    for lead in queries.recent():
        assert_kept(ask(f"/stats/leads/{lead['id']}/history"), HISTORY)


@pytest.mark.parametrize("lead_id", ["4711", "no-number", "9" * 5000])
def test_a_lead_that_is_not_there_is_as_described(lead_id):
    response = ask(f"/stats/leads/{lead_id}/history")

    assert response.status_code == 404
    assert_kept(response, HISTORY)


@pytest.mark.parametrize(("path", "url"), GUARDED)
def test_strangers_are_refused_as_described(settings, path, url):
    settings.ENABLE_AUTH = True

    response = ask(url)

    assert response.status_code == 401
    assert_kept(response, path)


@pytest.mark.parametrize(("path", "url"), [*GUARDED, (HEALTH, HEALTH), (READY, READY), (DESCRIPTION, DESCRIPTION)])
def test_a_foreign_host_is_refused_as_described(path, url):
    response = ask(url, headers={"Host": "evil.example.com"})

    assert response.status_code == 400
    assert_kept(response, path)


@pytest.mark.parametrize(
    ("query", "path", "url"),
    [
        ("counts", COUNTS, COUNTS),
        ("recent", RECENT, RECENT),
        ("find_lead", HISTORY, "/stats/leads/1/history"),
    ],
)
@pytest.mark.parametrize(("problem", "status"), [(OperationalError("away"), 503), (RuntimeError("a bug"), 500)])
def test_what_goes_wrong_here_is_told_to_readers_as_described(monkeypatch, query, path, url, problem, status):
    def fail(*_):
        raise problem

    monkeypatch.setattr(queries, query, fail)
    response = ask(url)

    assert response.status_code == status
    assert_kept(response, path)


@pytest.mark.parametrize("queue_is_there", [True, False])
@pytest.mark.parametrize("database_is_there", [True, False])
@pytest.mark.parametrize("enable_auth", [True, False])
def test_readiness_is_as_described(settings, monkeypatch, queue_is_there, database_is_there, enable_auth):
    settings.ENABLE_AUTH = enable_auth

    def away(*_):
        raise queue.QueueUnavailable

    def refuse(*_):
        raise OperationalError

    with monkeypatch.context() as patch:
        if not queue_is_there:
            patch.setattr(queue, "depth", away)
        if not database_is_there:
            patch.setattr(connection, "cursor", refuse)
        response = ask(READY)

    assert response.status_code == (200 if database_is_there else 503)
    assert_kept(response, READY)


def test_health_is_as_described():
    assert_kept(ask(HEALTH), HEALTH)
