"""Checks of the database: reached, fit, migrated, and guarding its trail."""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from delivery.models import DeliveryAttempt
from leadgateway.dependencies import database_name, database_problem
from leads.models import LeadEvent
from stats.monitoring.doctor.finding import Finding, fail, ok, warn

_OLDEST_POSTGRES = 140_000
_SLOW_MS = 50.0

#: Missing migrations are named up to here.
_SHOWN = 3

#: Worker processes that share the server with the web's; more of them need more connections.
_WORKERS = 1


@contextmanager
def without_pool() -> Iterator[None]:
    """Connect directly inside: a pool would wait out its time-out before every bad news."""
    options = connection.settings_dict["OPTIONS"]
    pool = options.pop("pool", None)
    try:
        yield
    finally:
        if pool is not None:
            options["pool"] = pool


def server() -> Iterator[Finding]:
    """Connect, and see what answers and how fast."""
    if problem := database_problem():
        advice = "Until it is back every lead is answered 503; senders repeat them."
        yield fail("database", f"{database_name()}: {problem}", advice)
        return
    connection.ensure_connection()
    latency = _latency_ms()
    found = f"{database_name()}, {_version()}, {latency:.1f} ms"
    if connection.vendor == "postgresql" and _number("server_version_num") < _OLDEST_POSTGRES:
        yield fail("database", found, "PostgreSQL 14 or newer is needed.")
    elif latency > _SLOW_MS:
        yield warn("database", found, "A webhook makes several round trips within 500 ms: bring the database nearer.")
    else:
        yield ok("database", found)


def fitness() -> Iterator[Finding]:
    """Look at what only one of the two databases has: connections and TLS, or the journal."""
    if connection.vendor == "sqlite":
        yield _journal()
        return
    connection.ensure_connection()
    yield _tls()
    yield _connections()
    if settings.WORKER_CONCURRENCY > settings.DB_MAX_OPEN_CONNS:
        found = f"WORKER_CONCURRENCY {settings.WORKER_CONCURRENCY} > DB_MAX_OPEN_CONNS {settings.DB_MAX_OPEN_CONNS}"
        yield warn("worker threads", found, "Worker threads wait for connections: raise DB_MAX_OPEN_CONNS.")


def migrations() -> Iterator[Finding]:
    """Look whether the tables are as this version of the code wants them."""
    executor = MigrationExecutor(connection)
    missing = [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        yield fail("migrations", f"{len(missing)} not applied: {shown}", "manage.py migrate")
    else:
        yield ok("migrations", f"all {len(executor.loader.applied_migrations)} applied")


def trail() -> Iterator[Finding]:
    """Look whether the database itself refuses changes of the trail."""
    tables = [model._meta.db_table for model in (LeadEvent, DeliveryAttempt)]
    kinds = ["delete", "update"] + (["truncate"] if connection.vendor == "postgresql" else [])
    guards = {f"{table}_no_{kind}" for table in tables for kind in kinds}
    missing = {*guards, "lead_event_link"} - _triggers()
    if missing:
        advice = (
            "Somebody dropped or disabled them, or a migration rebuilt the table: repeat the append_only migrations."
        )
        yield fail("trail", f"may be changed; missing: {', '.join(sorted(missing))}", advice)
    else:
        yield ok("trail", "append-only and linked, by triggers")


def _triggers() -> set[str]:
    if connection.vendor == "sqlite":
        return {name for (name,) in _rows("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    return {name for (name,) in _rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'")}


def _journal() -> Finding:
    [(mode,)] = _rows("PRAGMA journal_mode")
    if mode != "wal":
        advice = "Readers and the writer block each other. WAL needs a local file system; network shares have none."
        return warn("journal", f"{mode}, not WAL", advice)
    return ok("journal", "WAL")


def _tls() -> Finding:
    mode = connection.settings_dict["OPTIONS"].get("sslmode", "prefer")
    encrypted = connection.connection.pgconn.ssl_in_use
    found = f"DB_SSLMODE={mode}, {'encrypted' if encrypted else 'not encrypted'}"
    if not encrypted and not _is_local(connection.settings_dict["HOST"]):
        return warn("database TLS", found, "Leads are personal data: DB_SSLMODE=require or verify-full.")
    return ok("database TLS", found)


def _connections() -> Finding:
    """Compare what our processes may open with what the server has left beside others."""
    processes = settings.WEB_PROCESSES + _WORKERS
    needed = settings.DB_MAX_OPEN_CONNS * processes
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> %s"
    [(taken,)] = _rows(others, connection.settings_dict["OPTIONS"].get("application_name", ""))
    left = _number("max_connections") - _number("superuser_reserved_connections") - taken
    found = f"{needed} at most for {processes} processes, {left} available"
    if needed > left:
        return warn("connections", found, "Lower DB_MAX_OPEN_CONNS or WEB_PROCESSES, or raise max_connections.")
    return ok("connections", found)


def _is_local(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _latency_ms() -> float:
    """Return the best of three: one may have met a garbage collector."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        _rows("SELECT 1")
        times.append((time.perf_counter() - started) * 1000)
    return min(times)


def _version() -> str:
    if connection.vendor == "sqlite":
        [(version,)] = _rows("SELECT sqlite_version()")
        return f"version {version}"
    [(version,)] = _rows("SHOW server_version")
    return f"version {str(version).partition(' ')[0]}"


def _number(name: str) -> int:
    [(value,)] = _rows("SELECT current_setting(%s)", name)
    return int(value)


def _rows(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall()
