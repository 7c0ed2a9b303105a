"""`manage.py run`, as a newcomer meets it: a fresh checkout, real processes, signals."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from delivery.demo_customer import DemoCustomer
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

ROOT = Path(__file__).resolve().parents[2]
SEED_LEAD = {"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": True}}
DEMO_PORT = 8081

pytestmark = pytest.mark.e2e


def make_checkout() -> Path:
    """A fresh checkout, with neither a .env nor a var/ in it."""
    checkout = scratch_directory("checkout")
    for package in ("leadgateway", "leads", "delivery", "stats", "config"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("manage.py", "Procfile"):
        shutil.copy(ROOT / file, checkout)
    return checkout


class Run(Process):
    """`manage.py run` in a checkout, with nothing in its environment but what is given."""

    def __init__(self, checkout: Path, **settings: str) -> None:
        self.port = int(settings.setdefault("API_PORT", str(free_port())))
        self.url = f"http://127.0.0.1:{self.port}"
        system = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        command = [sys.executable, "manage.py", "run"]
        super().__init__(command, env=system | settings, cwd=checkout, log=checkout / f"output-{self.port}")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for output that matches; a run that ends without it is a failure at once."""
        wait_until(lambda: re.search(pattern, self.output()) or not self.is_running, 90, pattern)
        found = re.search(pattern, self.output())
        assert found, f"ended without {pattern}:\n{self.output()}"
        return found

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends_with(self) -> int:
        """Wait for the end and return the exit code."""
        wait_until(lambda: not self.is_running, 60, f"the end:\n{self.output()}")
        assert self.exit_code is not None
        return self.exit_code

    def post(self, lead: dict[str, Any] = SEED_LEAD) -> requests.Response:
        return requests.post(f"{self.url}/webhooks/leads", json=lead, timeout=5)


@contextmanager
def running(checkout: Path, **settings: str) -> Iterator[Run]:
    run = Run(checkout, **settings)
    run.start()
    try:
        yield run
    finally:
        run.kill()
        for pid in processes_of(checkout):
            os.kill(pid, signal.SIGKILL)


def processes_of(checkout: Path) -> dict[int, str]:
    """Every process of a checkout, whoever is its parent by now: pid -> command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and os.readlink(folder / "cwd") == str(checkout):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = line
    return {pid: line for pid, line in found.items() if line}  # a zombie has no command line


def pid_of(checkout: Path, part: str) -> int | None:
    """The oldest process of the checkout with `part` in its command line."""
    return next((pid for pid, line in sorted(processes_of(checkout).items()) if part in line), None)


def assert_nothing_is_left(run: Run) -> None:
    assert processes_of(run.cwd) == {}
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", run.port))


@pytest.fixture
def checkout() -> Iterator[Path]:
    folder = make_checkout()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# --- the first run, looked at from all sides -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_run() -> Iterator[Run]:
    """A run in a fresh checkout, up, on a machine where the demo's usual port is taken."""
    with ExitStack() as stack:
        taken = stack.enter_context(closing(socket.socket()))
        with suppress(OSError):  # somebody else has it, which is as good
            taken.bind(("127.0.0.1", DEMO_PORT))
            taken.listen()
        run = stack.enter_context(running(make_checkout()))
        run.wait_for("Lead Gateway is running")
        yield run


def test_a_fresh_checkout_delivers_the_seeds_lead_to_its_demo_customer(first_run: Run) -> None:
    answer = first_run.post()

    assert answer.status_code == 200
    assert answer.json()["status"] == "RECEIVED"
    assert first_run.wait_for(r"customer \| .*\*\*\*789 accepted #1")
    assert "connection refused" not in first_run.output()  # the demo was there when the banner came
    assert f"127.0.0.1:{DEMO_PORT}" not in first_run.output()


def test_the_banner_fits_eighty_columns_and_says_what_a_newcomer_needs(first_run: Run) -> None:
    banner = first_run.wait_for(r"(?s)=====\n(.*)\n=====")[1]

    assert max(map(len, banner.splitlines())) <= 80
    assert f"http://localhost:{first_run.port}/admin/" in banner
    assert "Ctrl-C" in banner
    assert "changepassword admin" in banner
    assert "var/lead_gateway.sqlite3" in banner


def test_the_curl_of_the_banner_works_when_pasted(first_run: Run) -> None:
    curl = first_run.wait_for(r"(?s)  (curl -X POST .*?\}')")[1].replace("test@", "pasted@")
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=20, check=True)

    assert json.loads(answer.stdout)["status"] == "RECEIVED"
    assert "duplicate" not in answer.stdout


def test_the_printed_password_opens_the_admin_and_is_kept_nowhere(first_run: Run) -> None:
    password = first_run.wait_for(r"user admin, password (\S+)")[1]
    browser = requests.Session()
    login = f"http://localhost:{first_run.port}/admin/login/"
    form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(login, timeout=10).text)
    assert form is not None
    fields = {"username": "admin", "password": password, "csrfmiddlewaretoken": form[1], "next": "/admin/"}
    page = browser.post(login, data=fields, headers={"Referer": login}, timeout=10)

    assert page.url.endswith("/admin/")
    assert page.status_code == 200
    assert first_run.output().count(password) == 1
    kept = [file for file in first_run.cwd.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
    assert kept == [first_run.log]


def test_the_output_does_not_frighten(first_run: Run) -> None:
    assert "Traceback" not in first_run.output()
    assert "Warning" not in first_run.output()
    assert "superuser privileges" not in first_run.output()
    assert '{"' not in first_run.output()  # lines of text, not of JSON


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_everything_and_a_second_run_finds_its_admin(checkout: Path) -> None:
    with running(checkout) as run:
        run.wait_for("user admin, password")
        run.signal(signal.SIGINT)

        assert run.ends_with() == 0
        assert_nothing_is_left(run)
        assert "Traceback" not in run.output()
    with running(checkout) as again:
        again.wait_for(r"user admin; a new password:\s+\S*python\S* manage.py changepassword admin")

        assert "user admin, password" not in again.output()
        again.signal(signal.SIGTERM)
        assert again.ends_with() == 0
        assert_nothing_is_left(again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "the terminal closed"])
def test_a_signal_in_the_middle_of_the_start_stops_everything(checkout: Path, number: signal.Signals) -> None:
    with running(checkout) as run:
        wait_until(lambda: pid_of(checkout, "gunicorn"), 60, "the first process")
        run.signal(number)

        assert run.ends_with() == 0
        assert_nothing_is_left(run)
        assert "Traceback" not in run.output()


def test_a_delivery_under_way_is_finished_before_the_end(checkout: Path) -> None:
    with DemoCustomer() as customer:
        customer.set_mode("delay=8s")  # longer than honcho would wait
        with running(checkout, CUSTOMER_API_URL=customer.url) as run:
            run.wait_for("Lead Gateway is running")
            run.post()
            wait_until(lambda: customer.requests, 30, "the request to the customer")
            run.signal(signal.SIGINT)

            assert run.ends_with() == 0
            assert "Stopping; what is under way is finished first" in run.output()
            assert statuses(checkout) == ["DELIVERED"]
            assert_nothing_is_left(run)


def test_a_second_ctrl_c_stops_at_once(checkout: Path) -> None:
    with DemoCustomer() as customer:
        customer.set_mode("hang=1")
        with running(checkout, CUSTOMER_API_URL=customer.url) as run:
            run.wait_for("Lead Gateway is running")
            run.post()
            wait_until(lambda: customer.requests, 30, "the request to the customer")
            run.signal(signal.SIGINT)
            run.wait_for("Ctrl-C again to stop at once")
            assert run.is_running
            started = time.monotonic()
            run.signal(signal.SIGINT)

            assert run.ends_with() == 0
            assert time.monotonic() - started < 10  # the time-out of the exchange alone is 30 s
            assert_nothing_is_left(run)


def statuses(checkout: Path) -> list[str]:
    with closing(sqlite3.connect(checkout / "var" / "lead_gateway.sqlite3")) as database:
        return [status for (status,) in database.execute("SELECT status FROM inbound_lead")]


@pytest.mark.parametrize(
    ("name", "part"), [("web", "gunicorn"), ("worker", "leadgateway worker"), ("beat", "leadgateway beat")]
)
def test_when_one_process_dies_all_stop_with_an_error_that_names_it(checkout: Path, name: str, part: str) -> None:
    with running(checkout) as run:
        run.wait_for("Lead Gateway is running")
        pid = pid_of(checkout, part)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        assert run.ends_with() == 1
        assert f"{name} was killed by signal 9" in run.output()
        assert f"{name} stopped by itself" in run.output()
        assert_nothing_is_left(run)


def test_nobody_reading_the_output_any_more_stops_everything(checkout: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "API_PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    process.wait(timeout=90)

    assert processes_of(checkout) == {}


# --- what it refuses, and what it takes instead ----------------------------------------------------------------------


def test_a_taken_api_port_is_refused_by_name_before_anything_is_touched(checkout: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(checkout, API_PORT=port) as run:
            assert run.ends_with() == 1

            assert "API_PORT" in run.output()
            assert port in run.output()
            assert "Traceback" not in run.output()
            assert not (checkout / "var" / "lead_gateway.sqlite3").exists()


def away(what: str) -> dict[str, str]:
    port = str(free_port())
    return {
        "database": {"DB_HOST": "127.0.0.1", "DB_PORT": port, "DB_PASSWORD": "s3cret-word", "QUEUE_TYPE": "database"},
        "queue": {"QUEUE_TYPE": "redis", "REDIS_URL": f"redis://:s3cret-word@127.0.0.1:{port}/0"},
    }[what]


@pytest.mark.parametrize(
    ("what", "named"), [("database", "PostgreSQL, lead_gateway at 127.0.0.1"), ("queue", "Redis at 127.0.0.1")]
)
def test_a_neighbour_that_is_away_is_named_without_traceback_or_password(checkout: Path, what: str, named: str) -> None:
    with running(checkout, **away(what)) as run:
        assert run.ends_with() == 1

        assert f"The {what} cannot be used" in run.output()
        assert named in run.output()
        assert "efused" in run.output()
        assert "Traceback" not in run.output()
        assert "s3cret-word" not in run.output()
        assert processes_of(checkout) == {}


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database("fresh")
    yield "fresh"
    postgres.drop_database("fresh")


def test_with_servers_and_a_customer_of_ones_own_it_runs_on_those(
    checkout: Path, postgres: PostgresServer, redis: RedisServer, empty_database: str
) -> None:
    with DemoCustomer() as customer:
        (checkout / ".env").write_text(f"CUSTOMER_API_URL={customer.url}/lead/USER_ID?key=s3cret-word\n")
        servers = {**postgres.env, "DB_NAME": empty_database, "QUEUE_TYPE": "redis", "REDIS_URL": redis.url_of(7)}
        with running(checkout, **servers) as run:
            banner = run.wait_for(r"(?s)=====\n(.*)\n=====")[1]
            run.post()
            wait_until(lambda: customer.requests, 30, f"the delivery:\n{run.output()}")

            assert f"PostgreSQL, {empty_database} at 127.0.0.1" in banner
            assert f"Redis at 127.0.0.1:{redis.port}" in banner
            assert f"{customer.url} (CUSTOMER_API_URL)" in banner
            assert "s3cret-word" not in run.output()
            assert pid_of(checkout, "fake_customer_api") is None
            assert not (checkout / "var" / "lead_gateway.sqlite3").exists()
            run.signal(signal.SIGINT)
            assert run.ends_with() == 0
            assert_nothing_is_left(run)
