"""Steps for migrations of tables that are in use: none holds a lock for longer than the blink of an eye.

On SQLite, which has one writer anyway, they are Django's own.
"""

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
