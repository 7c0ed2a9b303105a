"""The triggers by which the database itself keeps the trail: rows are added, never changed or deleted.

Retention and erasure, which the law demands, go through one door: `allow_audit_changes`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, migrations, transaction

_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION lead_gateway_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('lead_gateway.audit_changes_allowed', true) = 'open' THEN
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        IF TG_OP = 'UPDATE' THEN RETURN NEW; END IF;
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the trail is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

_SQLITE_DOOR = "CREATE TABLE audit_changes_allowed (is_open integer NOT NULL)"


def install_mechanism() -> migrations.RunPython:
    """Return the migration step that makes what the triggers lean on: a function, or SQLite's door."""
    return _statements(
        lambda vendor: [_SQLITE_DOOR if vendor == "sqlite" else _POSTGRES_FUNCTION],
        lambda vendor: [
            "DROP TABLE audit_changes_allowed" if vendor == "sqlite" else "DROP FUNCTION lead_gateway_refuse()"
        ],
    )


def refuse_changes(table: str, *, unless: str = "false") -> migrations.RunPython:
    """Return the migration step that makes the database refuse to change or delete the rows of `table`.

    On SQLite a later migration that alters the table rebuilds it without its triggers: repeat the step there; it
    may be repeated on PostgreSQL, which keeps them.

    :param unless: SQL on OLD and NEW for the one update that is allowed.
    """

    def install(vendor: str) -> list[str]:
        if vendor == "sqlite":
            closed = "NOT EXISTS (SELECT 1 FROM audit_changes_allowed WHERE is_open = 1)"
            message = f"SELECT RAISE(ABORT, 'the trail is append-only: a change of {table} is refused');"
            return [
                *remove(vendor),
                f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN {closed} BEGIN {message} END",
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} WHEN {closed} AND NOT ({unless})"
                f" BEGIN {message} END",
            ]
        call = "EXECUTE FUNCTION lead_gateway_refuse()"
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

    return _statements(install, remove)


def delete_with_lead(table: str, *, fk: str) -> migrations.RunPython:
    """Return the migration step that makes the rows of `table` go with their lead, in the database itself.

    :param fk: the name for PostgreSQL's foreign key, which replaces Django's own; Django 5.2 knows no
        ON DELETE CASCADE of the database.
    """

    def install(vendor: str) -> list[str]:
        if vendor == "sqlite":
            delete = f"DELETE FROM {table} WHERE lead_id = OLD.id"  # noqa: S608 (constant names of a migration)
            return [
                f"DROP TRIGGER IF EXISTS {fk}",
                f"CREATE TRIGGER {fk} BEFORE DELETE ON inbound_lead BEGIN {delete}; END",
            ]
        return [_replace_foreign_keys(table, fk)]

    def remove(vendor: str) -> list[str]:
        return [f"DROP TRIGGER {fk}"] if vendor == "sqlite" else []

    return _statements(install, remove)


def _replace_foreign_keys(table: str, fk: str) -> str:
    """Return the statement that puts `fk` in the place of the table's foreign keys to leads, unless it is there.

    Django makes their names from a hash. Made again, the key would look at every row while nobody can write.
    """
    return f"""
        DO $$ DECLARE key text; is_there boolean := false; BEGIN
            FOR key IN SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'f'
                AND confrelid = 'inbound_lead'::regclass LOOP
                IF key = '{fk}' THEN
                    is_there := true;
                ELSE
                    EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', key);
                END IF;
            END LOOP;
            IF NOT is_there THEN
                ALTER TABLE {table} ADD CONSTRAINT {fk} FOREIGN KEY (lead_id)
                    REFERENCES inbound_lead (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
            END IF;
        END $$"""  # noqa: S608 (constant names of a migration)


def _statements(forward: Callable[[str], list[str]], backward: Callable[[str], list[str]]) -> migrations.RunPython:
    def run(statements: Callable[[str], list[str]]) -> Callable[[Any, Any], None]:
        def code(_apps: Any, schema_editor: Any) -> None:
            for statement in statements(schema_editor.connection.vendor):
                schema_editor.execute(statement, params=None)

        return code

    return migrations.RunPython(run(forward), run(backward))


@contextmanager
def allow_audit_changes() -> Iterator[None]:
    """Allow changes of the trail until the end of the block, in this transaction alone.

    For retention and erasure only. The door closes with the transaction even when the process dies.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("INSERT INTO audit_changes_allowed (is_open) VALUES (1)")
        else:
            cursor.execute("SELECT set_config('lead_gateway.audit_changes_allowed', 'open', true)")
        yield
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM audit_changes_allowed")
        else:
            cursor.execute("SELECT set_config('lead_gateway.audit_changes_allowed', '', true)")
