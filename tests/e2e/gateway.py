"""The whole gateway as in production: the Procfile's commands as processes, configured by environment variables."""

import itertools
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import uuid
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg
import requests
from psycopg.rows import dict_row

from tests.environment import ROOT, UNHURRIED, of_a_process
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer, postgres_binary

Row = dict[str, Any]

#: Short intervals, so that tests do not wait: a lease lasts a second plus its margin, the sweep runs twice a second.
_DEFAULTS = {
    "API_HOST": "127.0.0.1",
    "WEB_PROCESSES": "1",
    "CUSTOMER_API_TIMEOUT": "1s",
    "RETRY_BACKOFF_BASE": "500ms",
    "WORKER_POLL_INTERVAL": "500ms",
    "REQUEUE_AFTER": "5s",
    "CIRCUIT_BACKOFF_BASE": "500ms",
    "CIRCUIT_BACKOFF_MAX": "1s",
    "WORKER_CONCURRENCY": "8",
    **UNHURRIED,
}

_TEMPLATE = "migrated"
_OWNER = "lead_owner"
_numbers = itertools.count(1)


class Gateway:
    """Web, worker and beat processes with a database of their own.

        with Gateway(postgres=server, redis=other, customer_url=customer.url) as gateway:
            answer = gateway.post({"zipcode": "66123", ...})
            gateway.wait_for("DELIVERED", answer.json()["lead_id"])

    Without `postgres` it uses the embedded default: SQLite and QUEUE_TYPE=database in a directory of its own.

    :param redis_database: number of the logical database, for gateways that share a Redis server.
    :param template: database of `postgres` to start with. By default it has the tables and no leads.
    :param env: settings that override `_DEFAULTS`.
    """

    running_gateways: ClassVar[list["Gateway"]] = []

    def __init__(
        self,
        *,
        customer_url: str,
        postgres: PostgresServer | None = None,
        redis: RedisServer | None = None,
        redis_database: int = 0,
        template: str | None = None,
        **env: str,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = scratch_directory("gateway")
        self.processes: dict[str, list[Process]] = {}
        self._postgres = postgres
        self._template = template
        self._backup: Path | None = None
        self._database = f"gateway_{next(_numbers)}"
        self.env = of_a_process(
            **_DEFAULTS
            | {"API_PORT": str(self.port), "VAR_DIR": str(self.directory), "CUSTOMER_API_URL": customer_url}
            | self._database_env()
            | ({"QUEUE_TYPE": "redis", "REDIS_URL": redis.url_of(redis_database)} if redis else {})
            | env
        )

    def _database_env(self) -> dict[str, str]:
        if self._postgres is None:
            return {"DB_NAME": str(self._sqlite_file), "QUEUE_TYPE": "database"}
        return self._postgres.env | {"DB_NAME": self._database}

    @property
    def _sqlite_file(self) -> Path:
        return self.directory / "lead_gateway.sqlite3"

    def on(self, backup: Path) -> Self:
        """Start on a backup written by `back_up`, with a role that owns the database and is no superuser."""
        self._backup = backup
        if self._postgres is not None:
            self.env["DB_USER"] = _OWNER
        return self

    # --- processes ---

    def start(self, *, web: int = 1, worker: int = 1, beat: int = 1) -> Self:
        """Create the database, start the given number of each process, and wait until all are ready."""
        self._make_database()
        self.running_gateways.append(self)
        for name, count in (("web", web), ("worker", worker), ("beat", beat)):
            for _ in range(count):
                self.spawn(name, wait=False)
        for name in self.processes:
            self._wait_for_ready(name)
        return self

    def spawn(self, name: str, *, wait: bool = True) -> Process:
        """Start one more process with its command in the Procfile."""
        started = self.processes.setdefault(name, [])
        log = self.directory / f"{name}-{len(started) + 1}.log"
        process = Process(shlex.split(procfile()[name]), env=self.env, cwd=ROOT, log=log)
        process.start()
        started.append(process)
        if wait:
            self._wait_for_ready(name)
        return process

    def running(self, name: str) -> list[Process]:
        """Return the running processes with that name."""
        return [process for process in self.processes.get(name, []) if process.is_running]

    def kill(self, name: str) -> None:
        """Kill every process with that name, and its child processes, with SIGKILL."""
        for process in self.running(name):
            process.kill()

    def terminate(self, name: str) -> None:
        """Send SIGTERM to every process with that name, as a supervisor does, and wait until it ends."""
        for process in self.running(name):
            process.stop(timeout=30)

    def stop(self) -> None:
        """Kill all processes and drop the database."""
        for name in self.processes:
            self.kill(name)
        if self._postgres is not None and self._postgres.process.is_running:
            self._postgres.drop_database(self._database)
        self.running_gateways.remove(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_for_ready(self, name: str) -> None:
        is_ready = {"web": self._web_answers, "worker": self._worker_is_ready, "beat": self._beat_has_a_schedule}[name]
        try:
            wait_until(lambda: self._must_run(name) and is_ready(), 60, f"{name} to be ready")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.logs(name)[-4000:]}") from None

    def _must_run(self, name: str) -> bool:
        assert self.running(name), f"{name} ended:\n{self.logs(name)[-4000:]}"
        return True

    def _web_answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).status_code < 500
        except requests.RequestException:
            return False

    def _worker_is_ready(self) -> bool:
        return re.search(r"\bready\.", self.running("worker")[-1].output()) is not None

    def _beat_has_a_schedule(self) -> bool:
        return any(self.directory.glob("celerybeat-schedule*"))

    def logs(self, name: str) -> str:
        """Return the output of the processes with that name, stdout and stderr."""
        return "".join(process.output() for process in self.processes.get(name, []))

    def manage(self, *arguments: str) -> str:
        """Run a manage.py command and return its output."""
        return manage(self.env, *arguments)

    # --- HTTP ---

    def post(self, payload: Any, *, session: requests.Session | None = None, **headers: str) -> requests.Response:
        """Post a lead. Bytes are sent unchanged. `X_Shared_Secret=...` sets the header X-Shared-Secret."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return (session or requests).post(
            f"{self.url}/webhooks/leads", data=body, headers={"Content-Type": "application/json"} | sent, timeout=10
        )

    def accept(self, payload: Any) -> int:
        """Post a lead, check that it is accepted, and return its id."""
        answer = self.post(payload)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return int(answer.json()["lead_id"])

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=10)

    # --- database ---

    def lead(self, lead_id: int) -> Row:
        return self.rows(f"SELECT * FROM inbound_lead WHERE id = {int(lead_id)}")[0]

    def leads(self) -> list[Row]:
        return self.rows("SELECT * FROM inbound_lead ORDER BY id")

    def attempts(self, lead_id: int) -> list[Row]:
        """Return a lead's attempts, oldest first."""
        return self.rows(f"SELECT * FROM delivery_attempt WHERE lead_id = {int(lead_id)} ORDER BY attempt_no")

    def events(self, lead_id: int) -> list[Row]:
        """Return a lead's events, oldest first."""
        return self.rows(f"SELECT * FROM lead_event WHERE lead_id = {int(lead_id)} ORDER BY id")

    def rows(self, query: str) -> list[Row]:
        """Run a query. Values are equal on both databases: parsed JSON, aware datetimes, UUIDs as text."""
        if self._postgres is None:
            return self._rows_of_sqlite(query)
        with psycopg.connect(self._postgres.url_of(self._database), connect_timeout=5) as connection:
            found = connection.cursor(row_factory=dict_row).execute(query.encode()).fetchall()
        return [
            {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in row.items()}
            for row in found
        ]

    def execute(self, statement: str) -> None:
        """Run a statement on a connection of the test's own."""
        if self._postgres is None:
            with closing(sqlite3.connect(self._sqlite_file, timeout=20)) as sqlite, sqlite:
                sqlite.execute(statement)
        else:
            with psycopg.connect(self._postgres.url_of(self._database), connect_timeout=5) as connection:
                connection.execute(statement.encode())

    def _rows_of_sqlite(self, query: str) -> list[Row]:
        connection = sqlite3.connect(f"file:{self._sqlite_file}?mode=ro", uri=True, timeout=20)
        try:
            connection.row_factory = sqlite3.Row
            return [
                {name: _read_value(name, value) for name, value in dict(row).items()}
                for row in connection.execute(query)
            ]
        finally:
            connection.close()

    def wait_for(self, status: str, lead_id: int, timeout: float = 30) -> Row:
        """Wait up to `timeout` seconds until a lead has a status, and return its row."""
        try:
            wait_until(lambda: self.lead(lead_id)["status"] == status, timeout, status)
        except TimeoutError:
            row = self.lead(lead_id)
            raise AssertionError(f"lead {lead_id} is not {status} within {timeout} s: {row}") from None
        return self.lead(lead_id)

    def wait_for_all(self, status: str, lead_ids: list[int], timeout: float = 30) -> None:
        """Wait up to `timeout` seconds until every lead has a status."""
        wanted = ", ".join(map(str, lead_ids)) or "NULL"
        others = f"SELECT id, status FROM inbound_lead WHERE id IN ({wanted}) AND status <> '{status}'"
        try:
            wait_until(lambda: not self.rows(others), timeout, status, pause=0.2)
        except TimeoutError:
            raise AssertionError(f"not {status} within {timeout} s: {self.rows(others)}") from None

    def back_up(self, to: Path) -> Path:
        """Write the database to a file as docs/operations.md describes, while the gateway runs."""
        if self._postgres is None:
            with closing(sqlite3.connect(self._sqlite_file, timeout=20)) as sqlite:
                sqlite.execute("VACUUM INTO ?", [str(to)])
        else:
            url = self._postgres.url_of(self._database)
            subprocess.run([postgres_binary("pg_dump"), "-Fc", "-f", to, url], check=True)
        return to

    def _restore(self, backup: Path) -> None:
        if self._postgres is None:
            shutil.copy(backup, self._sqlite_file)
            return
        self._postgres.execute(f"DROP ROLE IF EXISTS {_OWNER}")
        self._postgres.execute(f"CREATE ROLE {_OWNER} LOGIN NOSUPERUSER")
        self._postgres.execute(f'CREATE DATABASE "{self._database}" OWNER {_OWNER}')
        into = ["--no-owner", f"--role={_OWNER}", "--exit-on-error", "-d", self._postgres.url_of(self._database)]
        subprocess.run([postgres_binary("pg_restore"), *into, backup], check=True)

    def _make_database(self) -> None:
        if self._backup is not None:
            self._restore(self._backup)
        elif self._postgres is None:
            shutil.copy(_migrated_sqlite(), self._sqlite_file)
        else:
            template = self._template or _migrated_template(self._postgres)
            self._postgres.create_database(self._database, template=template)


_JSON_COLUMNS = {
    "raw_payload",
    "source_headers",
    "normalized_payload",
    "customer_payload",
    "detail",
    "failed_leads",
    "error",
}
_UUID_COLUMNS = {"correlation_id", "idempotency_key", "claim_token"}


def _read_value(column: str, value: Any) -> Any:
    """Convert a value from SQLite to the type that PostgreSQL returns."""
    if value is None:
        return None
    if column in _JSON_COLUMNS:
        return json.loads(value)
    if column in _UUID_COLUMNS:
        return str(uuid.UUID(value))
    if column == "at" or column.endswith(("_at", "_until")):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return bool(value) if column == "success" else value


def procfile() -> dict[str, str]:
    """Return the Procfile's commands by process name."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines) if command}


def run_manage(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a manage.py command in an environment, whatever its exit code."""
    command = [ROOT / ".venv" / "bin" / "python", "manage.py", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def manage(env: dict[str, str], *arguments: str) -> str:
    """Run a manage.py command in an environment and return its output."""
    done = run_manage(env, *arguments)
    assert done.returncode == 0, f"manage.py {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


@cache
def _migrated_template(postgres: PostgresServer) -> str:
    """Create the template database of every gateway, once per server, and return its name."""
    postgres.create_database(_TEMPLATE)
    var = str(scratch_directory("template"))
    manage(of_a_process(**postgres.env, DB_NAME=_TEMPLATE, VAR_DIR=var), "migrate", "--verbosity=0")
    return _TEMPLATE


@cache
def _migrated_sqlite() -> Path:
    file = scratch_directory("template") / "lead_gateway.sqlite3"
    manage(of_a_process(DB_NAME=str(file), VAR_DIR=str(file.parent)), "migrate", "--verbosity=0")
    return file
