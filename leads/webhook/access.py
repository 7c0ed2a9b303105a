"""Who may post leads, and how many: the shared secret and the rate limits. Both are checked before the body is read."""

import time
from datetime import timedelta
from functools import cache
from typing import Any, cast

from django.conf import settings
from django.utils.crypto import constant_time_compare
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from leadgateway.async_view import AsyncThrottle
from leadgateway.env import RateLimit
from leadgateway.logging import get_logger
from leadgateway.request import GatewayRequest
from leadgateway.timeouts import Breaker

log = get_logger(__name__)

#: Maximum number of connections to Redis. More requests wait for one of them.
_REDIS_CONNECTIONS = 8

_breaker = Breaker(pause=timedelta(seconds=1))


class SharedSecretAuthentication(BaseAuthentication):
    """The specification's optional authentication by X-Shared-Secret."""

    def authenticate(self, request: Request) -> None:
        """Set `source` of the request to the name of its secret. Every secret is compared, in constant time.

        :raises AuthenticationFailed: ENABLE_AUTH is on and the header is missing or wrong.
        """
        if not settings.ENABLE_AUTH:
            return
        gateway_request = cast(GatewayRequest, request._request)
        # Django decodes headers as Latin-1. Encode them again to compare the bytes of a secret in UTF-8.
        given = gateway_request.META.get("HTTP_X_SHARED_SECRET", "").encode("latin-1", "replace")
        names = zip(settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES, strict=True)
        sources = [name for secret, name in names if constant_time_compare(given, secret.encode())]
        if not sources:
            raise exceptions.AuthenticationFailed
        gateway_request.source = sources[0]

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme for WWW-Authenticate. Without one, the framework responds with 403 instead of 401."""
        return "SharedSecret"


class RateLimitThrottle(AsyncThrottle):
    """WEBHOOK_RATE_LIMIT_PER_SOURCE and WEBHOOK_RATE_LIMIT. When Redis is unavailable, every request is allowed."""

    _wait_s: float = 0

    async def allow_request(self, request: Request, view: APIView) -> bool:  # type: ignore[override]
        """Count the request, and return whether it is within both limits. Each limit takes a round trip to Redis.

        Without authentication, a source is the address of the connection.
        """
        per_source, overall = settings.WEBHOOK_RATE_LIMIT_PER_SOURCE, settings.WEBHOOK_RATE_LIMIT
        if (per_source is None and overall is None) or _breaker.is_open:
            return True
        gateway_request = cast(GatewayRequest, request._request)
        source = gateway_request.source or gateway_request.META.get("REMOTE_ADDR", "")
        try:
            allowed = await self._is_within(per_source, "source", source) and await self._is_within(overall, "all")
        except StorageError as error:
            _breaker.failed()
            log.warning("rate_limit_unavailable", reason=type(error.storage_error).__name__)
            return True
        _breaker.succeeded()
        return allowed

    def wait(self) -> float:
        """Return the number of seconds until the next request is allowed."""
        return self._wait_s

    async def _is_within(self, limit: RateLimit | None, scope: str, *identifiers: str) -> bool:
        if limit is None or await limiter().hit(_item(limit), scope, *identifiers):
            return True
        window = await limiter().get_window_stats(_item(limit), scope, *identifiers)
        self._wait_s = max(1, window.reset_time - time.time())
        log.info("lead_refused", status=429, reason="rate limit", scope=scope)
        return False


def _item(limit: RateLimit) -> RateLimitItem:
    """Return the limit for the library. Processes that count separately get equal shares."""
    processes = 1 if _uses_redis() else settings.WEB_PROCESSES
    return RateLimitItemPerSecond(max(1, limit.events // processes), int(limit.window.total_seconds()))


def _uses_redis() -> bool:
    # The library does not understand the sentinel URLs that kombu accepts.
    return settings.QUEUE_TYPE == "redis" and not settings.REDIS_URL.startswith("sentinel://")


@cache
def limiter() -> SlidingWindowCounterRateLimiter:
    """Return this process's rate limiter, created on first use. It belongs to the event loop."""
    if not _uses_redis():
        return SlidingWindowCounterRateLimiter(MemoryStorage())
    # Imported here because the Redis client imports OpenTelemetry, which is not needed without a broker.
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    timeout_s = settings.WEB_ANSWER_TIMEOUT.total_seconds() / 10  # each for connecting, waiting, and each response
    pool = BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=_REDIS_CONNECTIONS,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    storage = RedisStorage(
        settings.REDIS_URL,
        implementation="redispy",
        key_prefix="webhook",
        wrap_exceptions=True,
        connection_pool=pool,  # type: ignore[arg-type]
    )
    return SlidingWindowCounterRateLimiter(storage)


async def close_limiter() -> None:
    """Close the connections of this process's rate limiter."""
    if limiter.cache_info().currsize and isinstance(storage := limiter().storage, RedisStorage):
        bridge: Any = storage.bridge
        await bridge.get_connection().connection_pool.disconnect()
    limiter.cache_clear()
