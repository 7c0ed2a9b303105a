"""Pass many rows to one statement, as one JSON array. That takes both sides less time than many parameters."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Field, Model


def columns_of(model: type[Model], *names: str) -> "dict[str, Field[Any, Any]]":
    """Return fields of a model by the names of their columns."""
    fields = {field.column: field for field in model._meta.concrete_fields}
    return {name: fields[name] for name in names}


def as_table(columns: "Mapping[str, Field[Any, Any]]", rows: Iterable[Sequence[Any]]) -> tuple[str, list[Any]]:
    """Return the SQL of a table called `new` with these rows in their order, and its parameters.

    :param columns: the name of each column, and a model field of its type.
    """
    array = json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False, default=_encoded)
    return _table(tuple(columns.items())), [array]


@functools.cache
def _table(columns: "tuple[tuple[str, Field[Any, Any]], ...]") -> str:
    if connection.vendor == "sqlite":
        selected = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name, _ in columns)
        return f"(SELECT {selected} FROM json_each(%s)) AS new"  # noqa: S608 (names of columns)
    # The database checks the length when it writes the column. A type with a length would cut the value off.
    types = [f"{name} {(field.db_type(connection) or '').partition('(')[0]}" for name, field in columns]
    return f"jsonb_to_recordset(%s) AS new ({', '.join(types)})"


def _encoded(value: object) -> object:
    """Return a value that JSON does not know as the database stores it."""
    match value:
        case datetime():
            return str(connection.ops.adapt_datetimefield_value(value))
        case UUID():
            return value.hex
    raise TypeError(type(value).__name__)
