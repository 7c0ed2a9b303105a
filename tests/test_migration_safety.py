from pathlib import Path

import pytest

from tests.migration_safety import APPS, INITIAL, later_migrations, lint


@pytest.mark.parametrize("app", APPS)
def test_every_migration_after_the_initial_ones_is_checked(app: str, tmp_path: Path) -> None:
    folder = tmp_path / app / "migrations"
    folder.mkdir(parents=True)
    for name in ("__init__", "0001_tables", "0002_triggers_and_data", "0003_more", "0010_tables"):
        (folder / f"{name}.py").touch()

    assert INITIAL == ("0001_", "0002_")
    assert later_migrations(tmp_path) == [(app, "0003_more"), (app, "0010_tables")]


@pytest.mark.parametrize(
    ("sql", "exit_code"),
    [
        ("ALTER TABLE inbound_lead ADD COLUMN note text NULL;", 0),
        ("CREATE INDEX idx_note ON inbound_lead (note);", 1),
    ],
)
def test_sql_that_blocks_the_gateway_is_found(sql: str, exit_code: int, tmp_path: Path) -> None:
    (tmp_path / "leads.0003_more.sql").write_text(sql)

    assert lint(tmp_path) == exit_code
