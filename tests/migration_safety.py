"""Check that migrations are safe on a database in use: `python -m tests.migration_safety`, part of `make lint`.

squawk reads the SQL of the migrations. It cannot see what a migration does in Python.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import processes
from tests.environment import ROOT, of_a_process
from tests.servers import PostgresServer

APPS = ("leads", "delivery", "stats")

#: The migrations of the first version, which create the tables. No database is in use before them.
FIRST_VERSION = ("0001_", "0002_")

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
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as directory:
        _write_sql(Path(directory))
        return lint(Path(directory))


def lint(directory: Path) -> int:
    """Run squawk on the directory's SQL files, and return 0 when it finds nothing."""
    command = [
        "squawk",
        "--pg-version=14",
        f"--exclude={','.join(EXCLUDED_RULES)}",
        *sorted(map(str, directory.glob("*.sql"))),
    ]
    return subprocess.run(command, env=of_a_process(), check=False).returncode


def _write_sql(directory: Path) -> None:
    """Write an SQL file for each migration of our apps."""
    with PostgresServer() as server:
        env = of_a_process(VAR_DIR=str(directory), DB_NAME="postgres", **server.env)

        def manage(*arguments: str) -> str:
            command = [sys.executable, "manage.py", *arguments]
            return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout

        plan = manage("showmigrations", "--plan").splitlines()
        for app, _, name in (line.split()[-1].partition(".") for line in plan):
            if app in APPS and not name.startswith(FIRST_VERSION):
                (directory / f"{app}.{name}.sql").write_text(manage("sqlmigrate", app, name))


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        processes.finish()
