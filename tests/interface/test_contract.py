"""The OpenAPI contract describes every URL of the application, and real responses are valid by it."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver

from leadgateway import __version__
from leadgateway.env import RateLimit
from leads.models import LeadStatus
from stats.api import queries
from tests import make
from tests.interface.contract import CONTRACT, HISTORY, PATH, WEBHOOK, assert_kept
from tests.web_server import WebServer

COUNTS, RECENT, METRICS = "/stats/leads/counts", "/stats/leads/recent", "/metrics"
HEALTH, READY, DESCRIPTION = "/health", "/health/ready", "/openapi.yaml"

# Not in a transaction: the application closes its database connection after each response.
pytestmark = pytest.mark.django_db(transaction=True)

STATISTICS = [(COUNTS, COUNTS), (RECENT, RECENT), (HISTORY, "/stats/leads/1/history")]
PROTECTED = [*STATISTICS, (METRICS, METRICS)]


@contextmanager
def stopped(*servers):
    """Stop servers while the block runs, and forget the pool, which may pause before it connects again."""
    for server in servers:
        server.stop()
    try:
        yield
    finally:
        connection.close()
        connection.close_pool()
        for server in servers:
            server.start()


@pytest.fixture
def ask(web: WebServer):
    """Return a function that sends a request to the web server."""
    return web.ask


@pytest.fixture
def post(web: WebServer):
    """Return a function that posts a lead to the web server."""
    return lambda body=None, **headers: web.post(make.payload() if body is None else body, **headers)


# --- the document ----------------------------------------------------------------------------------------------------


def urls(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """Yield every path of the application except the admin's, as the contract writes it."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns) if str(pattern.pattern) != "admin/" else ()
        else:
            path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", str(pattern.pattern))
            yield "/" + path.removeprefix("^").removesuffix(r"/?\Z").replace("\\", "")


def test_the_contract_has_every_path_and_no_other():
    assert set(urls(get_resolver().url_patterns)) == set(CONTRACT)


def test_the_contract_is_valid_openapi_of_this_version():
    CONTRACT.validate()
    assert CONTRACT.raw_schema["info"]["version"] == __version__


@pytest.mark.parametrize("enable_auth", [True, False])
def test_the_contract_needs_no_authentication(settings, enable_auth, ask):
    settings.ENABLE_AUTH = enable_auth

    response = ask(DESCRIPTION)

    assert_kept(response, DESCRIPTION)
    assert response.content == PATH.read_bytes()


# --- the webhook -----------------------------------------------------------------------------------------------------


def test_accepted_and_duplicate_leads_match_the_contract(post):
    body = json.dumps(make.payload()).encode()

    for duplicate in (None, True):
        response = post(body)

        assert response.json().get("duplicate") is duplicate
        assert_kept(response, WEBHOOK, "POST")


def too_large(settings):
    return b'{"a": "' + b"x" * settings.MAX_PAYLOAD_BYTES + b'"}'


@pytest.mark.parametrize(
    ("status", "send"),
    [
        (400, lambda post, _: post(b"[]")),
        (400, lambda post, _: post(Host="evil.example.com")),
        (401, lambda post, _: post(X_Shared_Secret="wrong")),
        (413, lambda post, settings: post(too_large(settings), X_Shared_Secret="right")),
    ],
)
def test_refused_posts_match_the_contract(settings, post, status, send):
    settings.ENABLE_AUTH = status in (401, 413)
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["right"], ["portal"]

    response = send(post, settings)

    assert response.status_code == status
    assert_kept(response, WEBHOOK, "POST")


def test_a_post_over_the_rate_limit_matches_the_contract(settings, redis, post):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, timedelta(minutes=1))
    redis.flush()
    responses = [post(), post()]

    assert [response.status_code for response in responses] == [200, 429]
    assert int(responses[1].headers["Retry-After"]) >= 1
    assert_kept(responses[1], WEBHOOK, "POST")


def test_a_late_body_matches_the_contract(settings, ask):
    settings.WEB_READ_TIMEOUT = timedelta(milliseconds=200)

    def late_body():
        yield b"{"
        time.sleep(1)
        yield b"}"

    response = ask(WEBHOOK, "POST", data=late_body())

    assert response.status_code == 408
    assert_kept(response, WEBHOOK, "POST")


@pytest.mark.slow
@pytest.mark.parametrize(("server", "error"), [("redis", "queue unavailable"), ("postgres", "database error")])
def test_an_unavailable_dependency_matches_the_contract_for_senders(request, server, error, post):
    with stopped(request.getfixturevalue(server)):
        response = post()

    assert (response.status_code, response.json()["error"]) == (503, error)
    assert_kept(response, WEBHOOK, "POST")


def test_an_unexpected_error_matches_the_contract_for_senders(settings, post):
    settings.WEBHOOK_RATE_LIMIT = "no rate limit"  # causes an AttributeError

    response = post()

    assert response.status_code == 500
    assert_kept(response, WEBHOOK, "POST")


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _leads_in_every_status():
    for status in LeadStatus:
        lead = make.lead(status=status, normalized_payload=None if status == LeadStatus.REJECTED else {})
        make.attempt(lead)
        make.attempt(lead, finished_at=None)
        make.attempt(lead, response_status=200)
    make.lead(status=LeadStatus.FAILED, next_attempt_at=None, rejection_reason="MISSING_REQUIRED_FIELD")
    make.lead(raw_payload=make.payload(email="anna@example.com"))
    call_command("erase_person", "--email=anna@example.com", "--no-input", verbosity=0)


@pytest.mark.usefixtures("_leads_in_every_status")
def test_statistics_match_the_contract(ask):
    for path in (COUNTS, RECENT, METRICS):
        assert_kept(ask(path), path)
    assert_kept(ask(METRICS, headers={"Accept": "application/openmetrics-text; version=1.0.0"}), METRICS)
    for lead in queries.recent():
        assert_kept(ask(f"/stats/leads/{lead['id']}/history"), HISTORY)


@pytest.mark.parametrize("lead_id", ["4711", "no-number"])
def test_an_unknown_lead_matches_the_contract(lead_id, ask):
    response = ask(f"/stats/leads/{lead_id}/history")

    assert response.status_code == 404
    assert_kept(response, HISTORY)


@pytest.mark.parametrize(("path", "url"), PROTECTED)
def test_unauthorized_readers_match_the_contract(settings, path, url, ask):
    settings.ENABLE_AUTH = True

    response = ask(url)

    assert response.status_code == 401
    assert_kept(response, path)


@pytest.mark.parametrize(("path", "url"), [*PROTECTED, (HEALTH, HEALTH), (READY, READY), (DESCRIPTION, DESCRIPTION)])
def test_an_unknown_host_matches_the_contract(path, url, ask):
    response = ask(url, headers={"Host": "evil.example.com"})

    assert response.status_code == 400
    assert_kept(response, path)


@pytest.mark.slow
def test_an_unavailable_database_matches_the_contract_for_readers(postgres, ask):
    with stopped(postgres):
        responses = {path: ask(url) for path, url in STATISTICS}

    for path, response in responses.items():
        assert response.status_code == 503
        assert_kept(response, path)


@pytest.mark.parametrize(("path", "url"), STATISTICS)
def test_an_unexpected_error_matches_the_contract_for_readers(settings, path, url, ask):
    settings.ENABLE_AUTH, settings.STATS_TOKEN = True, object()  # causes a TypeError

    response = ask(url, headers={"Authorization": "Bearer token"})

    assert response.status_code == 500
    assert_kept(response, path)


@pytest.mark.slow
@pytest.mark.parametrize("unavailable", [(), ("redis",), ("postgres",), ("postgres", "redis")])
def test_readiness_matches_the_contract(request, settings, unavailable, ask):
    with stopped(*map(request.getfixturevalue, unavailable)):
        for settings.ENABLE_AUTH in (True, False):
            response = ask(READY)

            assert response.status_code == (503 if "postgres" in unavailable else 200)
            assert_kept(response, READY)


def test_health_matches_the_contract(ask):
    assert_kept(ask(HEALTH), HEALTH)
