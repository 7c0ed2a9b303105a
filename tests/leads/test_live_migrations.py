"""Migrations on a database that is in use: they give way to others, and a linter finds those that would not."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, models
from django.db.migrations.executor import MigrationExecutor

from leads.live_migrations import AddIndex
from leads.management.commands import migrate
from tests import migration_safety, old_release
from tests.e2e.gateway import manage
from tests.environment import of_a_process
from tests.processes import scratch_directory, wait_until
from tests.servers import PostgresServer

BEFORE_THE_SOURCE = ("leads", "0006")


@pytest.fixture
def busy(transactional_db: None, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Somebody who reads leads in a transaction that they do not end."""
    monkeypatch.setattr(migrate, "TRIES", 3)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.01)
    monkeypatch.setattr(migrate, "PATIENCE_MS", 50)
    call_command("migrate", *BEFORE_THE_SOURCE, verbosity=0)
    with psycopg.connect(postgres.url_of(connection.settings_dict["NAME"])) as other:
        other.execute("SELECT count(*) FROM inbound_lead")
        yield other
        other.rollback()
    call_command("migrate", verbosity=0)


@pytest.mark.needs_postgres
def test_a_migration_does_not_queue_up_before_senders(busy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OperationalError, match="lock timeout"):
        call_command("migrate", verbosity=0)

    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",), "who gets the connection from the pool next is patient"

    assert capsys.readouterr().out.count("A table is busy; trying again") == 2


@pytest.mark.needs_postgres
def test_it_goes_on_when_the_table_is_free(busy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leads.management.commands.migrate.time.sleep", lambda _: busy.rollback())

    call_command("migrate", verbosity=0)

    assert "source" in {
        column.name for column in connection.introspection.get_table_description(connection.cursor(), "inbound_lead")
    }


@pytest.fixture
def index(transactional_db: None) -> Iterator[models.Index]:
    """An index that no migration of ours makes."""
    yield models.Index(fields=["source"], name="idx_of_a_test")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX IF EXISTS idx_of_a_test")


def make(index: models.Index, **options: Any) -> list[str]:
    """Do what a migration with that index does; return the SQL when it was only asked for."""
    step = AddIndex("inboundlead", index)
    before = MigrationExecutor(connection).loader.project_state()
    after = before.clone()
    step.state_forwards("leads", after)
    with connection.schema_editor(atomic=False, **options) as editor:
        step.database_forwards("leads", editor, before, after)
    return editor.collected_sql if options else []


def test_an_index_is_made(index: models.Index) -> None:
    make(index)

    with connection.cursor() as cursor:
        assert index.name in connection.introspection.get_constraints(cursor, "inbound_lead")


@pytest.mark.needs_postgres
def test_an_index_waits_for_who_is_at_work_and_takes_the_place_of_an_unfinished_one(
    index: models.Index, postgres: PostgresServer
) -> None:
    with connection.cursor() as cursor, psycopg.connect(postgres.url_of(connection.settings_dict["NAME"])) as other:
        cursor.execute(f"CREATE INDEX {index.name} ON inbound_lead (id)")
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [index.name])
        cursor.execute("SET lock_timeout = 50")
        other.execute("INSERT INTO inbound_lead (raw_payload) VALUES ('{}')")
        threading.Timer(0.3, other.rollback).start()

        make(index)

        cursor.execute(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = %s::regclass", [index.name]
        )
        is_valid, definition = cursor.fetchone()
        assert is_valid
        assert definition.endswith("(source)")
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("50ms",)
        cursor.execute("RESET lock_timeout")


@pytest.mark.needs_postgres
def test_the_linter_has_nothing_against_such_an_index(index: models.Index, tmp_path: Path) -> None:
    (tmp_path / "leads.0099.sql").write_text("\n".join(make(index, collect_sql=True)))

    assert migration_safety.lint(tmp_path) == 0


@pytest.mark.parametrize(
    ("sql", "finds"),
    [
        ("ALTER TABLE lead_event ADD CONSTRAINT c CHECK (kind <> '');", "constraint-missing-not-valid"),
        ("CREATE INDEX i ON inbound_lead (source);", "require-concurrent-index-creation"),
        ("ALTER TABLE inbound_lead ADD COLUMN x integer NOT NULL;", "adding-required-field"),
        ("ALTER TABLE inbound_lead ADD COLUMN x integer;", None),
    ],
)
def test_the_linter_finds_what_would_keep_senders_waiting(
    sql: str, finds: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leads.0099.sql").write_text(f"BEGIN;\n{sql}\nCOMMIT;\n")

    assert (migration_safety.lint(tmp_path) != 0) == (finds is not None)

    if finds:
        assert finds in capfd.readouterr().out


@pytest.mark.needs_postgres
@pytest.mark.e2e
def test_the_old_version_takes_leads_all_the_while_that_its_database_is_brought_up_to_date(
    postgres: PostgresServer,
) -> None:
    postgres.create_database("old_release")
    env = of_a_process(
        **postgres.env, DB_NAME="old_release", QUEUE_TYPE="database", VAR_DIR=str(scratch_directory("old"))
    )
    manage(env, "migrate", "--verbosity=0", *old_release.TABLES)
    url = postgres.url_of("old_release")
    old_release.fill(url, leads=600)

    with old_release.senders(url, count=4) as storing:
        manage(env, "migrate", "--verbosity=0")
        migrated = time.monotonic()
        wait_until(lambda: storing.began[-1] > migrated, 10, "a lead of the old version in the new tables")

    assert not storing.errors
    leads = 600 + len(storing.seconds)
    assert manage(env, "verify_trail") == f"{leads} trails checked, 0 broken.\n"
    postgres.drop_database("old_release")
