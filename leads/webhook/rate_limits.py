"""How many posts are taken, of one source and of all together. When nobody can say, all are: leads before limits."""

import time
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.http import HttpRequest
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from leadgateway.breaker import Breaker
from leadgateway.env import RateLimit
from leadgateway.logging import get_logger
from leads.webhook.authentication import source_of

log = get_logger(__name__)

#: What connecting, and each answer, may take of the 500 ms that a sender waits. Redis nearby answers within one.
_TIMEOUT_S = 0.02

_breaker = Breaker(pause=timedelta(seconds=1))


class PostThrottle(BaseThrottle):
    """WEBHOOK_RATE_LIMIT_PER_SOURCE and WEBHOOK_RATE_LIMIT; asked after the secret, and before the body is read."""

    _wait_s: float = 0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count a post, and tell whether it is within both limits; a round trip to Redis for each that is set."""
        if _breaker.is_open:
            return True
        try:
            allowed = self._is_within(settings.WEBHOOK_RATE_LIMIT_PER_SOURCE, "source", sender(request._request))
            allowed = allowed and self._is_within(settings.WEBHOOK_RATE_LIMIT, "all")
        except StorageError as error:
            _breaker.failed()
            log.warning("rate_limit_not_known", reason=type(error.storage_error).__name__)
            return True
        _breaker.succeeded()
        return allowed

    def wait(self) -> float:
        """Return the seconds until there is room again."""
        return self._wait_s

    def _is_within(self, limit: RateLimit | None, *whose: str) -> bool:
        if limit is None or _limiter().hit(_item(limit), *whose):
            return True
        self._wait_s = max(1, _limiter().get_window_stats(_item(limit), *whose).reset_time - time.time())
        log.info("lead_refused", status=429, reason="rate limit", of=whose[0])
        return False


def sender(request: HttpRequest) -> str:
    """Return who posts: the name of the source by its secret; without authentication the address of the connection."""
    return (source_of(request) if settings.ENABLE_AUTH else None) or request.META.get("REMOTE_ADDR", "")


def _item(limit: RateLimit) -> RateLimitItem:
    """Return the limit as the library wants it; each process that counts for itself gets its share."""
    processes = 1 if _is_shared() else settings.WEB_PROCESSES
    return RateLimitItemPerSecond(max(1, limit.events // processes), int(limit.window.total_seconds()))


def _is_shared() -> bool:
    # limits knows no address of a sentinel as kombu writes it.
    return settings.QUEUE_TYPE == "redis" and not settings.REDIS_URL.startswith("sentinel://")


@cache
def _limiter() -> SlidingWindowCounterRateLimiter:
    """Return this process's counter; made on first use, which is after gunicorn has forked."""
    if not _is_shared():
        return SlidingWindowCounterRateLimiter(MemoryStorage())
    # Only here: the client imports OpenTelemetry, and without a broker nobody needs either.
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    storage = RedisStorage(
        settings.REDIS_URL,
        key_prefix="webhook",
        wrap_exceptions=True,
        socket_connect_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
    )
    return SlidingWindowCounterRateLimiter(storage)
