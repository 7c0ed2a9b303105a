"""Fixtures for all tests: real servers of their own, the database's one door for clearing it, no way to the outside."""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import environment, processes
from tests.servers import PostgresServer, RedisServer

_servers: dict[str, Any] = {}

# The suite tries the same examples every time; `make fuzz` tries others, and many more. What it finds becomes an
# `@example`. Fixtures are for a test and not for an example: the database of the first is what the later ones meet.
settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "fuzz",
    settings.get_profile("suite"),
    derandomize=False,
    max_examples=int(os.environ.get("EXAMPLES") or 1000),
    print_blob=True,
)
settings.load_profile("suite")


# --- before Django reads its settings --------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our option, and choose the settings: this is called before any other conftest or test is imported."""
    parser.addoption(
        "--sqlite",
        action="store_true",
        help="run the tests that use the database on the embedded default (SQLite, QUEUE_TYPE=database)",
    )
    config: Any = pluginmanager.get_plugin("pytestconfig")
    given = [*config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split()]
    if _only_hands_out_tests(given):
        return  # its environment would be that of the processes which run them
    _set_django_up(on_sqlite="--sqlite" in given)


def _only_hands_out_tests(given: list[str]) -> bool:
    """Tell whether this process leaves the tests to others, each of which has servers of its own (pytest-xdist)."""
    return "PYTEST_XDIST_WORKER" not in os.environ and any(argument.startswith("-n") for argument in given)


def _set_django_up(*, on_sqlite: bool) -> None:
    """Load the settings from a private environment. The servers that it names are started on first use."""
    import django
    from django.conf import settings

    if settings.configured:
        raise pytest.UsageError("DJANGO_SETTINGS_MODULE or --ds is set: the tests choose their settings themselves")
    var = processes.scratch_directory("var")
    ours = environment.UNHURRIED | {
        "VAR_DIR": str(var),
        "CUSTOMER_API_URL": f"http://127.0.0.1:{processes.free_port()}/closed",
    }
    if on_sqlite:
        ours |= {"DB_NAME": str(var / "lead_gateway.sqlite3"), "QUEUE_TYPE": "database"}
    else:
        _servers.update(postgres=PostgresServer(), redis=RedisServer())
        ours |= {**_servers["postgres"].env, **_servers["redis"].env, "DB_NAME": "lead_gateway"}
    environment.take_over(**ours)
    django.setup()
    from leadgateway.settings import env

    if missed := set(env.names) - environment.known_variables():
        raise pytest.UsageError(f"tests/environment.py did not find these variables in the settings: {missed}")


def pytest_unconfigure() -> None:
    processes.finish()


# --- which tests run -------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--sqlite"):
        return
    wanted = [item for item in items if _runs_on_sqlite(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
    for item in items:
        if item.get_closest_marker("needs_postgres"):
            item.add_marker(pytest.mark.skip(reason="uses what only PostgreSQL has"))


def _runs_on_sqlite(item: pytest.Item) -> bool:
    """Tell whether it makes a difference to run a test on SQLite, and is possible."""
    if item.get_closest_marker("e2e"):
        return item.get_closest_marker("embedded") is not None
    uses = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(uses) or item.get_closest_marker("django_db") is not None


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's private PostgreSQL. A test that stops or freezes a server takes one of its own."""
    with _servers["postgres"] as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """The session's private Redis; database 0 is where the settings of this process point."""
    with _servers["redis"] as server:
        yield server


@pytest.fixture(autouse=True, scope="session")
def _redis_is_up(request: pytest.FixtureRequest) -> None:
    """Start Redis for everybody, as it takes no time: a test that rings need not know what answers."""
    if not request.config.getoption("--sqlite"):
        request.getfixturevalue("redis")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Have the servers up before the test database is made; on SQLite make it a file, as it is in earnest."""
    if request.config.getoption("--sqlite"):
        from django.db import connections

        database = connections.databases["default"]
        database["TEST"]["NAME"] = str(Path(database["NAME"]).with_name("test.sqlite3"))
    else:
        request.getfixturevalue("postgres")


@pytest.fixture
def queued_leads() -> Callable[[], list[int]]:
    """A function that takes all doorbells out of the queues and returns their leads, new ones first, as they were rung.

    The queues are empty when the test begins. A doorbell with a countdown is in its queue from the start.
    """
    _empty_the_queue()
    return _take_doorbells


def _empty_the_queue() -> None:
    """Throw away what is in the queues, also what an earlier test has put there that is no doorbell."""
    from django.conf import settings

    from leadgateway.celery import app

    channel: Any
    with app.connection_for_read() as connection, connection.channel() as channel:
        for name in (settings.PROCESS_QUEUE, settings.RETRY_QUEUE):
            while channel.basic_get(name, no_ack=True):
                pass


def _take_doorbells() -> list[int]:
    from django.conf import settings

    from leadgateway.celery import app

    leads = []
    channel: Any
    with app.connection_for_read() as connection, connection.channel() as channel:
        for name in (settings.PROCESS_QUEUE, settings.RETRY_QUEUE):
            while message := channel.basic_get(name, no_ack=True):
                leads.append(message.decode()[1]["lead_id"])
    return leads


# --- between the tests -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def _the_trail_can_be_cleared() -> Iterator[None]:
    """Clear the tables after a transactional test through the one door that the append-only triggers leave.

    By DELETE, which for a few rows takes a hundredth of the time of Django's TRUNCATE.
    """
    from django.test import TransactionTestCase

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: _clear_tables())
        yield


def _clear_tables() -> None:
    from django.apps import apps
    from django.db import connection

    from leads.audit.append_only import allow_audit_changes

    # made by the migrations
    kept = ("auth.permission", "auth.group", "auth.group_permissions", "contenttypes.contenttype")
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.label_lower not in kept]
    with allow_audit_changes(), connection.cursor() as cursor:
        for model in models:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")


@pytest.fixture(autouse=True)
def _breakers_are_closed() -> None:
    """Keep a test in which a server was away from failing the next one fast."""
    from leadgateway.breaker import Breaker

    for name in [name for name in sys.modules if name.startswith(("leads.", "leadgateway.", "delivery.", "stats."))]:
        if isinstance(breaker := getattr(sys.modules[name], "_breaker", None), Breaker):
            breaker.succeeded()
            breaker._open_until = 0.0


@pytest.fixture(autouse=True)
def _nothing_leaves_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that connects to anything but the loopback, even if what it tests swallowed the error."""
    tried: list[str] = []
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            tried.append(f"{address[0]}:{address[1]}")
            raise OSError(f"a test must not connect to {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield
    assert not tried, f"connected to the outside: {', '.join(tried)}"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback
