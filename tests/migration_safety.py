"""Check that migrations are safe on a database in use: `python -m tests.migration_safety`, part of `make lint`.

squawk reads the SQL of every migration but the initial ones. It cannot see what a migration does in Python.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import processes
from tests.environment import ROOT, of_a_process
from tests.servers import PostgresServer

APPS = ("leads", "delivery", "stats")

#: The initial migrations create the tables. No database is in use before them.
INITIAL = ("0001_", "0002_")

#: Rules that do not apply here, with the reason.
EXCLUDED_RULES = {
    "prefer-bigint-over-int": "the specification defines the integer columns",
    "prefer-bigint-over-smallint": "a table of one row",
    "prefer-text-field": "PostgreSQL widens a varchar without reading the rows",
    "require-lock-timeout": "manage.py migrate sets it",
    "require-statement-timeout": "validating old rows blocks no other transaction",
    "prefer-robust-stmts": "only AddIndex runs outside a transaction, and it removes the index of a failed run",
    "ban-drop-constraint": "a check is only replaced by a wider one with the same name",
}


def main() -> int:
    """Check the migrations and return the exit code."""
    later = later_migrations(ROOT)
    print(f"{len(later)} to check; exempt are the initial migrations ({'*, '.join(INITIAL)}*) of {', '.join(APPS)}")  # noqa: T201
    if not later:
        return 0
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as directory:
        _write_sql(later, Path(directory))
        return lint(Path(directory))


def later_migrations(root: Path) -> list[tuple[str, str]]:
    """Return the app and the name of each migration of our apps that is not an initial one."""
    files = [(app, file.stem) for app in APPS for file in sorted((root / app / "migrations").glob("[0-9]*.py"))]
    return [(app, name) for app, name in files if not name.startswith(INITIAL)]


def lint(directory: Path) -> int:
    """Run squawk on the directory's SQL files, and return 0 when it finds nothing."""
    command = [
        "squawk",
        "--pg-version=14",
        f"--exclude={','.join(EXCLUDED_RULES)}",
        *sorted(map(str, directory.glob("*.sql"))),
    ]
    return subprocess.run(command, env=of_a_process(), check=False).returncode


def _write_sql(migrations: list[tuple[str, str]], directory: Path) -> None:
    """Write an SQL file for each migration."""
    with PostgresServer() as server:
        env = of_a_process(VAR_DIR=str(directory), DB_NAME="postgres", **server.env)
        for app, name in migrations:
            command = [sys.executable, "manage.py", "sqlmigrate", app, name]
            done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
            (directory / f"{app}.{name}.sql").write_text(done.stdout)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        processes.finish()
