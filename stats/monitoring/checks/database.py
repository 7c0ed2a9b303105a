"""Checks of the database: reachable, new enough, fast enough, and configured for the gateway."""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import connection

from leadgateway import db
from leadgateway.dependencies import database_name, database_problem
from leadgateway.logging import get_logger
from stats.monitoring.checks.check import Check, Consumer
from stats.monitoring.checks.result import CheckResult, failure, ok, warning

log = get_logger(__name__)

_SLOW_MS = 50.0

#: Number of worker processes that are expected beside the web processes.
_WORKERS = 1


@contextmanager
def without_pool() -> Iterator[None]:
    """Connect without the pool inside: the pool hides the reason of a failed connection until its time-out."""
    options = connection.settings_dict["OPTIONS"]
    pool = options.pop("pool", None)
    try:
        yield
    finally:
        if pool is not None:
            options["pool"] = pool


def reachable() -> Iterator[CheckResult]:
    """Run a query on the connection of this thread, within the caller's deadline."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except db.UNAVAILABLE as error:
        log.warning("database_not_ready", exc_info=error)
        yield failure("database", error=type(error).__name__)
    else:
        yield ok("database")


def server() -> Iterator[CheckResult]:
    """Check the version and the latency of the server."""
    if problem := database_problem():
        yield failure("database_server", code="unavailable", name=database_name(), error=problem)
        return
    connection.ensure_connection()
    latency = _latency_ms()
    version = ".".join(map(str, connection.get_database_version()))  # Django refuses one that is too old
    make = warning if latency > _SLOW_MS else ok
    yield make("database_server", name=database_name(), version=version, latency_ms=round(latency, 1))


def suitability() -> Iterator[CheckResult]:
    """Check the journal of SQLite, or TLS and connections of PostgreSQL."""
    if connection.vendor == "sqlite":
        [(mode,)] = fetch_all("PRAGMA journal_mode")
        yield ok("journal") if mode == "wal" else warning("journal", mode=mode)
        return
    connection.ensure_connection()
    yield _tls()
    yield _connections()
    if settings.WORKER_CONCURRENCY > settings.DB_MAX_OPEN_CONNS:
        yield warning("worker_threads", threads=settings.WORKER_CONCURRENCY, connections=settings.DB_MAX_OPEN_CONNS)


def _tls() -> CheckResult:
    mode = connection.settings_dict["OPTIONS"].get("sslmode", "prefer")
    if connection.connection.pgconn.ssl_in_use:
        return ok("database_tls", code="encrypted", mode=mode)
    return (ok if _is_local(connection.settings_dict["HOST"]) else warning)("database_tls", mode=mode)


def _is_local(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _connections() -> CheckResult:
    """Compare the connections that the gateway may open with those that other clients leave free."""
    processes = settings.WEB_PROCESSES + _WORKERS
    needed = settings.DB_MAX_OPEN_CONNS * processes + settings.WEB_PROCESSES  # each has one more for the webhook
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> %s"
    [(taken,)] = fetch_all(others, connection.settings_dict["OPTIONS"].get("application_name", ""))
    available = _server_setting("max_connections") - _server_setting("superuser_reserved_connections") - taken
    make = warning if needed > available else ok
    return make("connections", needed=needed, processes=processes, available=available)


def _latency_ms() -> float:
    """Return the shortest of three measurements, since one may include a pause of this process."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        fetch_all("SELECT 1")
        times.append((time.perf_counter() - started) * 1000)
    return min(times)


def _server_setting(name: str) -> int:
    [(value,)] = fetch_all("SELECT current_setting(%s)", name)
    return int(value)


def fetch_all(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run a query and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall()


CHECKS = (
    Check("database", reachable, used_by=Consumer.READINESS),
    Check("database_server", server),
    Check("database_settings", suitability),
)
