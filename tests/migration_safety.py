"""Whether a migration could be run while leads come in: `python -m tests.migration_safety`, part of `make lint`.

squawk reads the SQL that PostgreSQL would be given. What Python does in a migration it cannot see.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import processes
from tests.environment import ROOT, of_a_process
from tests.servers import PostgresServer

OURS = ("leads", "delivery", "stats")

#: Made before anybody had a database that could have been in use.
FIRST = frozenset(
    [
        *("leads.0001_initial", "leads.0002_append_only", "leads.0003_audit_browser"),
        *("delivery.0001_initial", "delivery.0002_append_only", "delivery.0003_orders"),
        *("stats.0001_initial", "stats.0002_roles"),
    ]
)

#: Rules that ask for something else here, and why.
NOT_OURS = {
    "prefer-bigint-over-int": "the seed says which columns are integers",
    "prefer-bigint-over-smallint": "a table of one row",
    "prefer-text-field": "a varchar is widened without a look at the rows since PostgreSQL 9.2",
    "require-lock-timeout": "manage.py migrate sets it for all",
    "require-statement-timeout": "checking old rows may take its time: nobody waits for it",
    "prefer-robust-stmts": "outside of a transaction there is only AddIndex, which removes what a failed try has left",
    "ban-drop-constraint": "a check is dropped only to let more in, by the same name",
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as directory:
        _write_sql(Path(directory))
        return lint(Path(directory))


def lint(directory: Path) -> int:
    """Let squawk judge the directory's files of SQL; return 0 when it finds nothing."""
    command = [
        "squawk",
        "--pg-version=14",
        f"--exclude={','.join(NOT_OURS)}",
        *sorted(map(str, directory.glob("*.sql"))),
    ]
    return subprocess.run(command, env=of_a_process(), check=False).returncode


def _write_sql(directory: Path) -> None:
    """Write a file of SQL for each migration of ours."""
    with PostgresServer() as server:
        env = of_a_process(VAR_DIR=str(directory), DB_NAME="postgres", **server.env)

        def manage(*arguments: str) -> str:
            command = [sys.executable, "manage.py", *arguments]
            return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout

        plan = manage("showmigrations", "--plan").splitlines()
        for app, _, name in (line.split()[-1].partition(".") for line in plan):
            if app in OURS and f"{app}.{name}" not in FIRST:
                (directory / f"{app}.{name}.sql").write_text(manage("sqlmigrate", app, name))


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        processes.finish()
