"""Steps for migrations of tables that are in use: none holds a lock for longer than the blink of an eye.

On SQLite, which has one writer anyway, they are Django's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import migrations


class AddCheck(migrations.AddConstraint):
    """Add a check that holds for new rows at once; `ValidateCheck`, in a later migration, looks at the old ones.

    Django's own step looks at every row while nobody can write.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        sql = self.constraint.create_sql(model, schema_editor)
        schema_editor.execute(f"{sql} NOT VALID", params=None)


class ValidateCheck(migrations.RunSQL):
    """Look at the old rows, while everybody reads and writes; a no-op where the check has been valid all along."""

    def __init__(self, table: str, name: str) -> None:
        super().__init__(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}", migrations.RunSQL.noop)
        self.table, self.name = table, name

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [self.table, self.name], {}

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndex(migrations.AddIndex):
    """Make an index while everybody reads and writes; its migration has to say `atomic = False`.

    One that was left unfinished by a try before is in the way, and of no use: it is made anew.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        with _as_long_as_it_takes(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
            schema_editor.add_index(model, self.index, concurrently=True)


@contextmanager
def _as_long_as_it_takes(schema_editor: Any) -> Iterator[None]:
    """Wait for the transactions that are open now, however long: nobody waits behind this."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        [usual] = cursor.fetchone()
    schema_editor.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        schema_editor.execute(f"SET lock_timeout = '{usual}'")
