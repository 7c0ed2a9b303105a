"""Checks of the database and its schema, on a sound and on a damaged one."""

from typing import Any

import pytest
from django.db import connection

from stats.monitoring.checks import database, schema
from stats.monitoring.checks.result import Verdict
from tests.stats.monitoring.checks.results import only_result

OK, WARNING, FAILURE = Verdict.OK, Verdict.WARNING, Verdict.FAILURE

on_postgres = pytest.mark.needs_postgres
pytestmark = pytest.mark.django_db


def test_a_sound_database_passes_every_check() -> None:
    checks = (database.reachable, database.server, database.suitability, schema.migrations, schema.audit_log)

    results = [result for check in checks for result in check()]

    assert {result.verdict for result in results} == {OK}, results
    own = {"journal"} if connection.vendor == "sqlite" else {"database_tls", "connections"}
    assert {result.check for result in results} == {"database", "database_server", "migrations", "audit_log"} | own


def test_a_slow_database_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.08, 1.0, 1.08, 2.0, 2.08])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))

    assert only_result(database.server).verdict is WARNING


def test_a_missing_trigger_is_named() -> None:
    table = "" if connection.vendor == "sqlite" else " ON lead_event"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER lead_event_no_update{table}")

    result = only_result(schema.audit_log)

    assert (result.verdict, result.facts["missing"]) == (FAILURE, ["lead_event_no_update"])


@on_postgres
def test_a_disabled_trigger_counts_as_missing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE delivery_attempt DISABLE TRIGGER delivery_attempt_no_delete")

    assert only_result(schema.audit_log).facts["missing"] == ["delivery_attempt_no_delete"]


def test_a_missing_migration_is_named() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'stats' AND name >= '0002_roles'")

    result = only_result(schema.migrations)

    assert (result.verdict, result.facts["missing"]) == (FAILURE, ["stats.0002_roles"])


@on_postgres
@pytest.mark.parametrize(("connections", "verdict"), [(10, OK), (1000, WARNING)])
def test_more_connections_than_the_server_has_are_a_warning(settings: Any, connections: int, verdict: Verdict) -> None:
    settings.DB_MAX_OPEN_CONNS = connections

    assert only_result(database.suitability, "connections").verdict is verdict


@on_postgres
def test_more_worker_threads_than_connections_are_a_warning(settings: Any) -> None:
    settings.WORKER_CONCURRENCY = settings.DB_MAX_OPEN_CONNS + 1

    assert only_result(database.suitability, "worker_threads").verdict is WARNING


@on_postgres
def test_an_unencrypted_connection_to_another_machine_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    monkeypatch.setitem(connection.settings_dict, "HOST", "db.example.com")

    result = only_result(database.suitability, "database_tls")

    assert (result.verdict, result.facts) == (WARNING, {"mode": "disable"})


@on_postgres
def test_the_pool_is_restored_afterwards() -> None:
    options = connection.settings_dict["OPTIONS"]
    pool = options["pool"]

    with database.without_pool():
        assert "pool" not in options
    assert options["pool"] is pool
