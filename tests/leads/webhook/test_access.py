"""Rate limits of the webhook, counted in Redis, or in the process without one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.test import Client

from leadgateway import queue
from leadgateway.env import RateLimit
from leads.models import InboundLead
from leads.webhook import access
from tests import make
from tests.processes import wait_until
from tests.servers import RedisServer

URL = "/webhooks/leads"
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_limiter(monkeypatch, settings):
    """Reset the counters, and do not enqueue."""
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, **_: None)
    settings.WEB_PROCESSES = 1
    access.limiter.cache_clear()
    access.limiter().storage.reset()
    yield
    access.limiter.cache_clear()


def post(client, body=None, **headers):
    content = make.payload() if body is None else body
    return client.post(URL, content, content_type="application/json", headers=headers)


def statuses(client, count, **headers):
    return [post(client, **headers).status_code for _ in range(count)]


def test_without_limits_every_post_is_accepted(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # not called

    assert statuses(client, 5) == [200] * 5


def test_a_post_over_the_limit_is_refused_before_its_body_is_read(client, settings):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(3, MINUTE)

    assert statuses(client, 3) == [200] * 3
    refused = post(client, b"not JSON")

    assert refused.status_code == 429
    assert refused.json() == {"error": "too many requests", "correlation_id": refused["X-Correlation-ID"]}
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert InboundLead.objects.count() == 3


@pytest.fixture
def two_sources(settings):
    settings.ENABLE_AUTH = True
    settings.SHARED_SECRETS = ["old", "new", "other"]
    settings.SHARED_SECRET_NAMES = ["forms", "forms", "portal"]
    settings.WEBHOOK_RATE_LIMIT_PER_SOURCE = RateLimit(2, MINUTE)


def test_all_secrets_of_a_source_share_its_limit(client, two_sources):
    assert statuses(client, 1, X_Shared_Secret="old") == [200]
    assert statuses(client, 2, X_Shared_Secret="new") == [200, 429]
    assert statuses(client, 2, X_Shared_Secret="other") == [200, 200]


def test_posts_without_a_secret_are_not_counted(client, settings, two_sources):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, MINUTE)

    assert statuses(client, 5, X_Shared_Secret="guessed") == [401] * 5
    assert statuses(client, 1, X_Shared_Secret="old") == [200]


def test_posts_over_the_limit_of_a_source_do_not_count_for_all(client, settings, two_sources):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(3, MINUTE)

    assert statuses(client, 5, X_Shared_Secret="old") == [200, 200, 429, 429, 429]
    assert statuses(client, 2, X_Shared_Secret="other") == [200, 429]


def test_without_authentication_a_source_is_the_address_of_the_connection(settings):
    settings.WEBHOOK_RATE_LIMIT_PER_SOURCE = RateLimit(1, MINUTE)

    assert statuses(Client(REMOTE_ADDR="192.0.2.1"), 2) == [200, 429]
    assert statuses(Client(REMOTE_ADDR="192.0.2.1"), 1, X_Forwarded_For="192.0.2.9") == [429]
    assert statuses(Client(REMOTE_ADDR="192.0.2.2"), 1) == [200]


def test_posts_are_accepted_again_after_the_window(client, settings):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(2, timedelta(seconds=3))
    assert statuses(client, 3) == [200, 200, 429]

    wait_until(lambda: statuses(client, 1) == [200], 30, "an accepted post")  # Redis counts by its own clock


def test_without_redis_each_process_gets_a_share(client, settings):
    settings.QUEUE_TYPE = "database"
    settings.WEB_PROCESSES = 2
    settings.WEBHOOK_RATE_LIMIT = RateLimit(4, MINUTE)
    access.limiter.cache_clear()

    assert statuses(client, 3) == [200, 200, 429]


@pytest.fixture
def counted_by_redis(settings):
    if settings.QUEUE_TYPE != "redis":
        pytest.skip("counted in the process")
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, MINUTE)


def test_processes_count_together(client, counted_by_redis):
    assert statuses(client, 1) == [200]
    access.limiter.cache_clear()  # as in another process

    assert statuses(client, 1) == [429]


@pytest.fixture
def allow_request(rf):
    """Return a function that counts a request, and returns whether it is allowed."""
    plain = rf.post(URL)
    plain.source = None
    request = type("Request", (), {"_request": plain})
    return lambda *_: access.RateLimitThrottle().allow_request(request, None)


def test_parallel_posts_are_counted_correctly(allow_request, settings, counted_by_redis):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(50, MINUTE)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(allow_request, range(200))) == 50


def test_a_flushed_redis_counts_from_zero(client, counted_by_redis):
    assert statuses(client, 2) == [200, 429]

    access.limiter().storage.storage.script_flush()
    assert statuses(client, 1) == [429]
    access.limiter().storage.reset()
    assert statuses(client, 1) == [200]


@pytest.mark.parametrize("how", ["refusing", "frozen"])
@pytest.mark.timeout(60)
def test_an_unavailable_redis_neither_refuses_nor_delays_leads(allow_request, settings, counted_by_redis, how, caplog):
    with RedisServer() as server:
        settings.REDIS_URL = server.url
        access.limiter.cache_clear()
        assert allow_request()
        server.freeze() if how == "frozen" else server.kill()
        # A frozen Redis would block a client without timeouts until the end of the test.
        assert all(allow_request() for _ in range(10))
        server.thaw()

    unavailable = [record for record in caplog.records if "rate_limit_unavailable" in record.getMessage()]
    assert 3 <= len(unavailable) < 10, "the breaker opens after three failures"
