"""Rate limits of the webhook, counted in Redis, or in the process without one."""

import asyncio
from datetime import timedelta

import pytest
import requests
from requests.adapters import HTTPAdapter

from leadgateway import queue
from leadgateway.env import RateLimit
from leads.models import InboundLead
from leads.webhook import access
from tests import make
from tests.processes import wait_until
from tests.servers import RedisServer
from tests.web_server import WEBHOOK

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _fresh_limiter(web, monkeypatch, settings):
    """Reset the counters, and do not enqueue."""
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, **_: None)
    settings.WEB_PROCESSES = 1
    new_limiter(web)
    web.run(access.limiter().storage.reset())
    yield
    new_limiter(web)


def new_limiter(web):
    """Close the connections of the limiter, and have a new one made, as in another process."""
    web.run(access.close_limiter())


def statuses(web, count, **headers):
    return [web.post(make.payload(), **headers).status_code for _ in range(count)]


def test_without_limits_every_post_is_accepted(web, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # not called

    assert statuses(web, 5) == [200] * 5


def test_a_post_over_the_limit_is_refused_before_its_body_is_read(web, settings):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(3, MINUTE)

    assert statuses(web, 3) == [200] * 3
    refused = web.post(b"not JSON")

    assert refused.status_code == 429
    assert refused.json() == {"error": "too many requests", "correlation_id": refused.headers["X-Correlation-ID"]}
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert InboundLead.objects.count() == 3


@pytest.fixture
def two_sources(settings):
    settings.ENABLE_AUTH = True
    settings.SHARED_SECRETS = ["old", "new", "other"]
    settings.SHARED_SECRET_NAMES = ["forms", "forms", "portal"]
    settings.WEBHOOK_RATE_LIMIT_PER_SOURCE = RateLimit(2, MINUTE)


def test_all_secrets_of_a_source_share_its_limit(web, two_sources):
    assert statuses(web, 1, X_Shared_Secret="old") == [200]
    assert statuses(web, 2, X_Shared_Secret="new") == [200, 429]
    assert statuses(web, 2, X_Shared_Secret="other") == [200, 200]


def test_posts_without_a_secret_are_not_counted(web, settings, two_sources):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, MINUTE)

    assert statuses(web, 5, X_Shared_Secret="guessed") == [401] * 5
    assert statuses(web, 1, X_Shared_Secret="old") == [200]


def test_posts_over_the_limit_of_a_source_do_not_count_for_all(web, settings, two_sources):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(3, MINUTE)

    assert statuses(web, 5, X_Shared_Secret="old") == [200, 200, 429, 429, 429]
    assert statuses(web, 2, X_Shared_Secret="other") == [200, 429]


def post_from(web, address, **headers):
    """Post a lead from one of the addresses of this machine."""

    class FromAddress(HTTPAdapter):
        def init_poolmanager(self, *args, **kwargs):
            super().init_poolmanager(*args, source_address=(address, 0), **kwargs)

    with requests.Session() as session:
        session.mount("http://", FromAddress())
        return session.post(web.url + WEBHOOK, json=make.payload(), headers=headers, timeout=30).status_code


def test_without_authentication_a_source_is_the_address_of_the_connection(web, settings):
    settings.WEBHOOK_RATE_LIMIT_PER_SOURCE = RateLimit(1, MINUTE)

    assert [post_from(web, "127.0.0.2") for _ in range(2)] == [200, 429]
    assert post_from(web, "127.0.0.2", **{"X-Forwarded-For": "192.0.2.9"}) == 429
    assert post_from(web, "127.0.0.3") == 200


def test_posts_are_accepted_again_after_the_window(web, settings):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(2, timedelta(seconds=3))
    assert statuses(web, 3) == [200, 200, 429]

    wait_until(lambda: statuses(web, 1) == [200], 30, "an accepted post")  # Redis counts by its own clock


def test_without_redis_each_process_gets_a_share(web, settings):
    settings.QUEUE_TYPE = "database"
    settings.WEB_PROCESSES = 2
    settings.WEBHOOK_RATE_LIMIT = RateLimit(4, MINUTE)
    new_limiter(web)

    assert statuses(web, 3) == [200, 200, 429]


@pytest.fixture
def counted_by_redis(settings, request):
    if settings.QUEUE_TYPE != "redis":
        pytest.skip("counted in the process")
    settings.WEBHOOK_RATE_LIMIT = RateLimit(1, MINUTE)
    return request.getfixturevalue("redis")


def test_processes_count_together(web, counted_by_redis):
    assert statuses(web, 1) == [200]
    new_limiter(web)

    assert statuses(web, 1) == [429]


@pytest.fixture
def allow_requests(web, rf):
    """Return a function that counts requests at the same moment, and returns which are allowed."""
    plain = rf.post(WEBHOOK)
    plain.source = None
    request = type("Request", (), {"_request": plain})

    async def allowed(count):
        return await asyncio.gather(*(access.RateLimitThrottle().allow_request(request, None) for _ in range(count)))

    return lambda count=1: web.run(allowed(count))


def test_parallel_posts_are_counted_correctly(allow_requests, settings, counted_by_redis):
    settings.WEBHOOK_RATE_LIMIT = RateLimit(50, MINUTE)

    assert sum(allow_requests(200)) == 50


def test_a_flushed_redis_counts_from_zero(web, counted_by_redis):
    assert statuses(web, 2) == [200, 429]

    counted_by_redis.flush()
    assert statuses(web, 1) == [200]


@pytest.mark.parametrize("how", ["refusing", "frozen"])
@pytest.mark.timeout(60)
def test_an_unavailable_redis_neither_refuses_nor_delays_leads(
    web, allow_requests, settings, counted_by_redis, how, caplog
):
    with RedisServer() as server:
        settings.REDIS_URL = server.url
        new_limiter(web)
        assert all(allow_requests())
        server.freeze() if how == "frozen" else server.kill()
        # A frozen Redis would block a client without timeouts until the end of the test.
        assert all(allow_requests()[0] for _ in range(10))
        server.thaw()

    unavailable = [record for record in caplog.records if "rate_limit_unavailable" in record.getMessage()]
    assert 3 <= len(unavailable) < 10, "the breaker opens after three failures"
