"""Triggers that make the audit log append-only: the database refuses to change or delete its rows.

Retention and erasure, which the law requires, use `allow_audit_changes`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection, migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('lead_gateway.audit_changes_allowed', true) = 'on' THEN
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        IF TG_OP = 'UPDATE' THEN RETURN NEW; END IF;
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'audit log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

#: SQLite has no session variables: changes are allowed while this table has a row.
_SQLITE_TABLE = "CREATE TABLE audit_changes_allowed (allowed integer NOT NULL)"


def create_guard() -> migrations.RunPython:
    """Return the operation that creates what the triggers need: a function on PostgreSQL, a table on SQLite."""
    return run_statements(
        lambda vendor: [_SQLITE_TABLE if vendor == "sqlite" else _POSTGRES_FUNCTION],
        lambda vendor: [
            "DROP TABLE audit_changes_allowed" if vendor == "sqlite" else "DROP FUNCTION refuse_audit_change()"
        ],
    )


def refuse_changes(table: str, *, unless: str = "false") -> migrations.RunPython:
    """Return the operation that makes the database refuse to change or delete rows of `table`.

    When a later migration alters the table, SQLite rebuilds it without its triggers: repeat the operation after it.
    On PostgreSQL this is harmless.

    :param unless: SQL condition on OLD and NEW for updates that are allowed.
    """

    def install(vendor: str) -> list[str]:
        if vendor == "sqlite":
            not_allowed = "NOT EXISTS (SELECT 1 FROM audit_changes_allowed)"
            message = f"SELECT RAISE(ABORT, 'audit log is append-only: a change of {table} is refused');"
            return [
                *remove(vendor),
                f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN {not_allowed} BEGIN {message} END",
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} WHEN {not_allowed} AND NOT ({unless})"
                f" BEGIN {message} END",
            ]
        call = "EXECUTE FUNCTION refuse_audit_change()"
        return [
            *remove(vendor),
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}",
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW WHEN (NOT ({unless})) {call}",
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}",
        ]

    def remove(vendor: str) -> list[str]:
        if vendor == "sqlite":
            return [f"DROP TRIGGER IF EXISTS {table}_no_{what}" for what in ("delete", "update")]
        return [f"DROP TRIGGER IF EXISTS {table}_no_{what} ON {table}" for what in ("delete", "update", "truncate")]

    return run_statements(install, remove)


def delete_with_lead(table: str, *, fk: str) -> migrations.RunPython:
    """Return the operation that makes the database delete rows of `table` with their lead.

    Django 5.2 does not support ON DELETE CASCADE in the database.

    :param fk: the name of the foreign key on PostgreSQL, which replaces Django's, or of the trigger on SQLite.
    """

    def install(vendor: str) -> list[str]:
        if vendor == "sqlite":
            delete = f"DELETE FROM {table} WHERE lead_id = OLD.id"  # noqa: S608 (constants of a migration)
            return [
                f"DROP TRIGGER IF EXISTS {fk}",
                f"CREATE TRIGGER {fk} BEFORE DELETE ON inbound_lead BEGIN {delete}; END",
            ]
        return _replace_foreign_key(table, fk, "ON DELETE CASCADE")

    def remove(vendor: str) -> list[str]:
        return [f"DROP TRIGGER IF EXISTS {fk}"] if vendor == "sqlite" else _replace_foreign_key(table, fk, "")

    return run_statements(install, remove)


def _replace_foreign_key(table: str, fk: str, on_delete: str) -> list[str]:
    """Return the statements that replace the foreign keys from `table` to leads. Django's have generated names."""
    drop = f"""
        DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT conname FROM pg_constraint WHERE contype = 'f'
                AND conrelid = '{table}'::regclass AND confrelid = 'inbound_lead'::regclass LOOP
                EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', name);
            END LOOP;
        END $$"""  # noqa: S608 (constants of a migration)
    add = f"""
        ALTER TABLE {table} ADD CONSTRAINT {fk} FOREIGN KEY (lead_id)
            REFERENCES inbound_lead (id) {on_delete} DEFERRABLE INITIALLY DEFERRED"""
    return [drop, add]


def run_statements(forward: Callable[[str], list[str]], backward: Callable[[str], list[str]]) -> migrations.RunPython:
    """Return the operation that runs the SQL statements that `forward` and `backward` return for a database vendor."""

    def run(statements: Callable[[str], list[str]]) -> Callable[[StateApps, BaseDatabaseSchemaEditor], None]:
        def code(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
            for statement in statements(schema_editor.connection.vendor):
                schema_editor.execute(statement, params=None)

        return code

    return migrations.RunPython(run(forward), run(backward))


@contextmanager
def allow_audit_changes() -> Iterator[None]:
    """Allow changes of the audit log until the end of the block, in this transaction only.

    For retention and erasure. The permission ends with the transaction, even when the process dies.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("INSERT INTO audit_changes_allowed (allowed) VALUES (1)")
        else:
            cursor.execute("SELECT set_config('lead_gateway.audit_changes_allowed', 'on', true)")
        yield
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM audit_changes_allowed")
        else:
            cursor.execute("SELECT set_config('lead_gateway.audit_changes_allowed', '', true)")
