"""Checks of the database's schema: migrated, and with an append-only audit log."""

from collections.abc import Iterator
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from delivery.models import DeliveryAttempt
from leadgateway import db
from leads.models import LeadEvent
from stats.monitoring.checks.check import Check, Consumer
from stats.monitoring.checks.database import fetch_all
from stats.monitoring.checks.result import CheckResult, failure, ok


def migrations() -> Iterator[CheckResult]:
    """Check that every migration of the code is applied."""
    try:
        applied = set(MigrationRecorder(connection).migration_qs.values_list("app", "name"))
    except db.UNAVAILABLE as error:
        yield failure("migrations", code="unreadable", error=type(error).__name__)
        return
    known = _known_migrations()
    if missing := sorted(".".join(name) for name in known - applied):
        yield failure("migrations", code="not_applied", number=len(missing), missing=missing)
    else:
        yield ok("migrations", applied=len(known))


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def audit_log() -> Iterator[CheckResult]:
    """Check that the triggers which keep the audit log append-only exist and are enabled."""
    tables = [model._meta.db_table for model in (LeadEvent, DeliveryAttempt)]
    operations = ["delete", "update"] + (["truncate"] if connection.vendor == "postgresql" else [])
    expected = {f"{table}_no_{operation}" for table in tables for operation in operations} | {"lead_event_link"}
    if missing := sorted(expected - _triggers()):
        yield failure("audit_log", missing=missing)
    else:
        yield ok("audit_log")


def _triggers() -> set[str]:
    if connection.vendor == "sqlite":
        return {name for (name,) in fetch_all("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    return {name for (name,) in fetch_all("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'")}


CHECKS = (
    Check("migrations", migrations, used_by=Consumer.READINESS | Consumer.DOCTOR, needs_database=True),
    Check("audit_log", audit_log),
)
