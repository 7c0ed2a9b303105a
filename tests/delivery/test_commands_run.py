"""`manage.py run` in a fresh checkout, with real processes and signals."""

import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.environment import ROOT
from tests.hostile_customer import HostileCustomer
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

LEAD = {"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": True}}
DEMO_PORT = 8081

pytestmark = pytest.mark.e2e


def make_checkout() -> Path:
    """Return a fresh checkout, without .env and var/."""
    checkout = scratch_directory("checkout")
    for package in ("leadgateway", "leads", "delivery", "stats", "config"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("manage.py", "Procfile.dev"):
        shutil.copy(ROOT / file, checkout)
    return checkout


class Run(Process):
    """`manage.py run` in a checkout, with only the given settings in its environment."""

    def __init__(self, checkout: Path, **settings: str) -> None:
        self.port = int(settings.setdefault("API_PORT", str(free_port())))
        self.url = f"http://127.0.0.1:{self.port}"
        system = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        command = [sys.executable, "manage.py", "run"]
        super().__init__(command, env=system | settings, cwd=checkout, log=checkout / f"output-{self.port}")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for output that matches, and fail when the run ends without it."""
        wait_until(lambda: re.search(pattern, self.output()) or not self.is_running, 90, pattern)
        found = re.search(pattern, self.output())
        assert found, f"ended without {pattern}:\n{self.output()}"
        return found

    def wait_until_up(self) -> None:
        """Wait until the API responds and the worker takes tasks."""
        self.wait_for(r"web\.1 .*Booting worker")
        self.wait_for(r"worker\.1 .* ready\.")
        self.wait_for(r"beat\.1 started")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        os.kill(self.pid, number)
        return self.wait_for_exit()

    def wait_for_exit(self) -> int:
        """Wait for the end, check that nothing is left, and return the exit code."""
        wait_until(lambda: not self.is_running, 60, f"the end:\n{self.output()}")
        assert processes_of(self.cwd) == {}
        assert "Traceback" not in self.output()
        assert self.exit_code is not None
        return self.exit_code

    def post(self, lead: dict[str, Any] = LEAD) -> requests.Response:
        return requests.post(f"{self.url}/webhooks/leads", json=lead, timeout=20)


@contextmanager
def running(checkout: Path, **settings: str) -> Iterator[Run]:
    run = Run(checkout, **settings)
    run.start()
    try:
        yield run
    finally:
        run.kill()
        for pid in processes_of(checkout):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes_of(checkout: Path) -> dict[int, str]:
    """Return the command line of every process that runs in a checkout, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and os.readlink(folder / "cwd") == str(checkout):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = line
    return {pid: line for pid, line in found.items() if line}  # a zombie has no command line


def oldest_process(checkout: Path, part: str) -> int | None:
    """Return the oldest process of the checkout with `part` in its command line."""
    return next((pid for pid, line in sorted(processes_of(checkout).items()) if part in line), None)


@pytest.fixture
def checkout() -> Iterator[Path]:
    folder = make_checkout()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_procfile_dev_runs_the_commands_of_the_procfile() -> None:
    def commands(file: str) -> dict[str, str]:
        lines = (ROOT / file).read_text().splitlines()
        return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))

    development = commands("Procfile.dev")
    del development["customer"]
    assert development == {name: f"exec {command}" for name, command in commands("Procfile").items()}


# --- the first run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_run() -> Iterator[Run]:
    """A run in a fresh checkout, on a machine where the demo customer's port is in use."""
    with ExitStack() as stack:
        taken = stack.enter_context(closing(socket.socket()))
        with suppress(OSError):  # another program has it, which serves as well
            taken.bind(("127.0.0.1", DEMO_PORT))
            taken.listen()
        run = stack.enter_context(running(make_checkout()))
        run.wait_until_up()
        run.wait_for(r"customer\.1 .*listening")
        yield run


def banner(run: Run) -> str:
    return run.wait_for(r"(?s)=====\n(.*)\n=====")[1]


def test_a_fresh_checkout_delivers_a_lead_to_its_demo_customer(first_run: Run) -> None:
    answer = first_run.post()

    assert answer.status_code == 200
    assert answer.json()["status"] == "RECEIVED"
    assert first_run.wait_for(r"customer\.1 \| \*\*\*789 accepted #1")
    assert f"127.0.0.1:{DEMO_PORT}" not in first_run.output()


def test_the_banner_fits_eighty_columns_and_the_output_has_no_warnings(first_run: Run) -> None:
    text = banner(first_run)

    assert max(map(len, text.splitlines())) <= 80
    for part in (f"http://localhost:{first_run.port}/admin/", "Ctrl-C", "changepassword admin", "lead_gateway.sqlite3"):
        assert part in text
    for part in ("Traceback", "Warning", "superuser privileges", '{"'):
        assert part not in first_run.output()


def test_the_curl_command_of_the_banner_sends_a_lead(first_run: Run) -> None:
    command = first_run.wait_for(r"(?s)  (curl -X POST .*?\}')")[1].replace("test@", "pasted@")
    curl, *words = shlex.split(command.replace("\\\n", " "))
    [url] = [word for word in words if word.startswith("http")]
    options = dict(pairwise(words))

    header, _, value = options["-H"].partition(": ")
    answer = requests.request(options["-X"], url, data=options["-d"], headers={header: value}, timeout=20)

    assert curl == "curl"
    assert answer.json()["status"] == "RECEIVED"
    assert "duplicate" not in answer.json()


def test_the_printed_password_opens_the_admin_and_is_stored_nowhere(first_run: Run) -> None:
    password = first_run.wait_for(r"user admin, password (\S+)")[1]
    browser = requests.Session()
    login = f"http://localhost:{first_run.port}/admin/login/"
    form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(login, timeout=20).text)
    assert form is not None
    fields = {"username": "admin", "password": password, "csrfmiddlewaretoken": form[1], "next": "/admin/"}
    page = browser.post(login, data=fields, headers={"Referer": login}, timeout=20)

    assert page.url.endswith("/admin/")
    assert page.status_code == 200
    assert first_run.output().count(password) == 1
    files = [file for file in first_run.cwd.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
    assert files == [first_run.log]


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_ctrl_c_and_a_closed_terminal_stop_everything(checkout: Path) -> None:
    with running(checkout) as run:
        run.wait_for("Migrating the database")
        assert run.end() == 130
        assert run.output() == "Migrating the database ...\n"
    with HostileCustomer() as customer:
        customer.set_mode("hang=1")
        with running(checkout, CUSTOMER_API_URL=customer.url, CUSTOMER_API_TIMEOUT="10m") as second:
            second.wait_until_up()
            second.post()
            wait_until(lambda: customer.requests, 30, "the request to the customer")
            assert second.end() == 0  # a delivery in progress delays the end by a few seconds only
    with closing(sqlite3.connect(checkout / "var" / "lead_gateway.sqlite3")) as database:
        assert database.execute("SELECT status FROM inbound_lead").fetchall() == [("READY",)]
    with running(checkout) as third:
        third.wait_for(r"user admin; a new password:\s+\S*python\S* manage.py changepassword admin")
        third.wait_until_up()
        assert "user admin, password" not in third.output()
        assert third.end(signal.SIGHUP) == 0  # the command turns it into SIGTERM


def test_everything_stops_with_an_error_when_a_process_dies(checkout: Path) -> None:
    with running(checkout) as run:
        run.wait_until_up()
        pid = oldest_process(checkout, "leadgateway worker")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        assert run.wait_for_exit() == 1
        assert "worker.1 stopped (rc=-9)" in run.output()
        assert "A process stopped unexpectedly" in run.output()


# --- preconditions and settings --------------------------------------------------------------------------------------


def test_an_api_port_in_use_is_named_before_anything_is_changed(checkout: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(checkout, API_PORT=port) as run:
            assert run.wait_for_exit() == 1

            assert "API_PORT" in run.output()
            assert port in run.output()
            assert not (checkout / "var" / "lead_gateway.sqlite3").exists()


@pytest.mark.parametrize(
    ("dependency", "settings", "name"),
    [
        (
            "database",
            {"DB_HOST": "127.0.0.1", "DB_PORT": "{port}", "DB_PASSWORD": "s3cret-word", "QUEUE_TYPE": "database"},
            "PostgreSQL, lead_gateway at 127.0.0.1",
        ),
        (
            "queue",
            {"QUEUE_TYPE": "redis", "REDIS_URL": "redis://:s3cret-word@127.0.0.1:{port}/0"},
            "Redis at 127.0.0.1",
        ),
    ],
)
def test_an_unavailable_dependency_is_named_without_its_password(
    checkout: Path, dependency: str, settings: dict[str, str], name: str
) -> None:
    port = str(free_port())
    with running(checkout, **{key: value.format(port=port) for key, value in settings.items()}) as run:
        assert run.wait_for_exit() == 1

        assert dependency in run.output()
        assert name in run.output()
        assert "efused" in run.output()
        assert "s3cret-word" not in run.output()


def test_it_runs_on_the_servers_and_the_customer_of_the_settings(
    checkout: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    postgres.create_database("fresh")
    with HostileCustomer() as customer:
        (checkout / ".env").write_text(f"CUSTOMER_API_URL={customer.url}/lead/USER_ID?key=s3cret-word\n")
        servers = {**postgres.env, "DB_NAME": "fresh", "QUEUE_TYPE": "redis", "REDIS_URL": redis.url_of(7)}
        with running(checkout, **servers) as run:
            text = banner(run)
            run.wait_until_up()
            run.post()
            wait_until(lambda: customer.requests, 30, f"the delivery:\n{run.output()}")

            assert "PostgreSQL, fresh at 127.0.0.1" in text
            assert f"Redis at 127.0.0.1:{redis.port}" in text
            assert f"{customer.url} (CUSTOMER_API_URL)" in text
            assert "s3cret-word" not in run.output()
            assert oldest_process(checkout, "fake_customer_api") is None
            assert not (checkout / "var" / "lead_gateway.sqlite3").exists()
            assert run.end() == 0
