"""Storage parameters of PostgreSQL's tables, as operations for migrations. SQLite has none."""

from collections.abc import Callable

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def leave_room_for_updates(table: str, *, fillfactor: int) -> migrations.RunPython:
    """Return the operation that makes INSERTs fill only `fillfactor` percent of each page of a table.

    An update that changes no indexed column finds room for the new version of the row on the same page, and then
    writes to no index.
    """

    def run(change: str) -> Callable[[StateApps, BaseDatabaseSchemaEditor], None]:
        def code(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
            if schema_editor.connection.vendor == "postgresql":
                schema_editor.execute(f"ALTER TABLE {table} {change}")

        return code

    return migrations.RunPython(run(f"SET (fillfactor = {fillfactor})"), run("RESET (fillfactor)"))
