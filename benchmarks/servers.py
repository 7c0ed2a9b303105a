"""PostgreSQL servers with the settings of production, empty or with many leads."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.e2e.gateway import manage
from tests.environment import ROOT, of_a_process
from tests.processes import scratch_directory
from tests.servers import PostgresServer, postgres_binary

#: Name of the database with sample leads.
SEEDED = "seeded"


class OrdinaryPostgres(PostgresServer):
    """A server that flushes commits to the disk and has PostgreSQL's defaults, unlike the servers of the tests."""

    def __init__(self, *, directory: Path | None = None) -> None:
        super().__init__(durable=True, directory=directory)

    def _command(self, directory: Path) -> list[str]:
        return [*super()._command(directory), "-c", "shared_buffers=128MB", "-c", "autovacuum_naptime=1min"]


class SeededPostgres(OrdinaryPostgres):
    """A server with a template of sample leads. Its directory is kept for the next run with the same tables.

    :param leads: Number of sample leads.
    """

    def __init__(self, leads: int) -> None:
        directory = Path(f"/var/tmp/lead-gateway-{os.geteuid()}/{leads}-leads-{_version()}")  # noqa: S108
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory=directory)
        self._leads = leads

    def __enter__(self) -> "SeededPostgres":
        self.start()
        with psycopg.connect(self.url) as connection:
            databases = {
                name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            }
        for left in databases - {"postgres", SEEDED}:
            self.drop_database(left)  # of a run that was interrupted
        if SEEDED not in databases:
            self._seed()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def create_database(self, name: str, *, template: str = "template1") -> None:
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')  # without WAL

    def _seed(self) -> None:
        print(f"seeding {self._leads:,} leads, which are kept in {self.process.cwd}", flush=True)
        self.execute("CREATE DATABASE seeding")
        env = of_a_process(**self.env, DB_NAME="seeding", VAR_DIR=str(scratch_directory("seeding")))
        manage(env, "migrate", "--verbosity=0")
        command = [sys.executable, "-m", "benchmarks.seed_leads", str(self._leads), "--yes"]
        subprocess.run(command, env=env, cwd=ROOT, check=True)
        self.execute(f"ALTER DATABASE seeding RENAME TO {SEEDED}")


def _version() -> str:
    """Return a text that changes with the tables, the sample leads and the version of PostgreSQL."""
    files = [*sorted(ROOT.glob("*/migrations/0*.py")), ROOT / "benchmarks" / "sample_data.py"]
    parts = [str(postgres_binary("postgres").resolve()).encode(), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]
