"""The gateway and its servers with the settings of production, on a database that is empty or has many leads."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.sink import Sink
from tests.e2e.gateway import Gateway, manage
from tests.environment import ROOT, of_a_process
from tests.processes import Process, scratch_directory
from tests.servers import PostgresServer, RedisServer, postgres_binary

#: Name of the database with sample leads.
_SEEDED = "seeded"

#: The gateway of the tests has short intervals. These settings get their defaults back.
_DEFAULTS = dict.fromkeys(
    (
        *("WEB_PROCESSES", "WEB_ANSWER_TIMEOUT", "WORKER_CONCURRENCY", "WORKER_POLL_INTERVAL", "REQUEUE_AFTER"),
        *("CUSTOMER_API_TIMEOUT", "RETRY_BACKOFF_BASE", "CIRCUIT_BACKOFF_BASE", "CIRCUIT_BACKOFF_MAX"),
    ),
    "",
)


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
        for old in directory.parent.glob(f"{leads}-leads-*"):
            if old != directory:
                shutil.rmtree(old)
        super().__init__(directory=directory)
        self._leads = leads

    def __enter__(self) -> "SeededPostgres":
        self.start()
        with psycopg.connect(self.url) as connection:
            databases = {
                name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            }
        for left in databases - {"postgres", _SEEDED}:
            self.drop_database(left)  # of a run that was interrupted
        if _SEEDED not in databases:
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
        self.execute(f"ALTER DATABASE seeding RENAME TO {_SEEDED}")


def _version() -> str:
    """Return a text that changes with the tables, the sample leads and the version of PostgreSQL."""
    files = [*sorted(ROOT.glob("*/migrations/0*.py")), ROOT / "benchmarks" / "sample_data.py"]
    parts = [str(postgres_binary("postgres").resolve()).encode(), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


@dataclass(frozen=True)
class Servers:
    """What a gateway needs. The template is the database that it starts with."""

    postgres: PostgresServer
    redis: RedisServer
    customer: Sink
    template: str | None

    @contextmanager
    def gateway(self, *, redis_database: int = 0, worker: int = 1) -> Iterator[Gateway]:
        """Run a gateway with the default settings and a new database."""
        gateway = Gateway(
            postgres=self.postgres,
            redis=self.redis,
            redis_database=redis_database,
            customer_url=self.customer.url,
            template=self.template,
            **_DEFAULTS,
        )
        gateway.start(worker=worker, beat=worker)
        try:
            yield gateway
        finally:
            gateway.stop()

    def used_by(self, gateway: Gateway, *names: str) -> dict[str, Process]:
        """Return the processes with these names and the servers."""
        ours = {name: gateway.running(name)[-1] for name in names}
        return {**ours, "PostgreSQL": self.postgres.process, "Redis": self.redis.process}


@contextmanager
def servers(leads: int = 0) -> Iterator[Servers]:
    """Run the servers of a gateway, and end them after the block."""
    with SeededPostgres(leads) if leads else OrdinaryPostgres() as postgres, RedisServer() as redis, Sink() as customer:
        yield Servers(postgres, redis, customer, _SEEDED if leads else None)
