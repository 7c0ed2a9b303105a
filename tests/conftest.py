"""Fixtures for all tests: private servers, clearing the append-only tables, no connections to other machines."""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import environment, processes
from tests.servers import PostgresServer, RedisServer
from tests.web_server import WebServer, web_server

_servers: dict[str, Any] = {}

# The suite tries the same examples every time; `make fuzz` tries many random ones. Add an `@example` for each one that
# fails. A function-scoped fixture is set up once per test, so later examples see the rows of earlier ones.
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
settings.register_profile(
    "fast",
    settings.get_profile("suite"),
    max_examples=20,
    # A few examples say nothing about the share of inputs that a strategy filters out.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


# --- before Django reads its settings --------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our option and configure Django. Pytest calls this before it imports any other conftest or test."""
    parser.addoption(
        "--sqlite",
        action="store_true",
        help="run the tests of our own SQL on the embedded default (SQLite, QUEUE_TYPE=database)",
    )
    parser.addoption(
        "--fast",
        action="store_true",
        help="run the tests that start no process, with few examples, on the embedded default",
    )
    config: Any = pluginmanager.get_plugin("pytestconfig")
    given = [*config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split()]
    settings.load_profile("fast" if "--fast" in given else "suite")
    if _is_xdist_controller(given):
        return  # the workers would inherit its environment
    _configure_django(on_sqlite="--sqlite" in given or "--fast" in given)


def _is_xdist_controller(given: list[str]) -> bool:
    """Return whether this process distributes the tests to pytest-xdist workers, which have servers of their own."""
    return "PYTEST_XDIST_WORKER" not in os.environ and any(argument.startswith("-n") for argument in given)


def _configure_django(*, on_sqlite: bool) -> None:
    """Load the settings from a private environment. The servers it names start on first use."""
    import django
    from django.conf import settings as django_settings

    if django_settings.configured:
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE and --ds: the tests choose their settings")
    var = processes.scratch_directory("var")
    variables = environment.UNHURRIED | {
        "VAR_DIR": str(var),
        "CUSTOMER_API_URL": f"http://127.0.0.1:{processes.free_port()}/closed",
    }
    if on_sqlite:
        variables |= {"DB_NAME": str(var / "lead_gateway.sqlite3"), "QUEUE_TYPE": "database"}
    else:
        _servers.update(postgres=PostgresServer(), redis=RedisServer())
        variables |= {**_servers["postgres"].env, **_servers["redis"].env, "DB_NAME": "lead_gateway"}
    environment.take_over(**variables)
    django.setup()
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one takes 0.3 s
    from leadgateway.settings import env

    if unknown := set(env.names) - environment.known_variables():
        raise pytest.UsageError(f"tests/environment.py did not find these variables in the settings: {unknown}")


def pytest_unconfigure() -> None:
    processes.finish()


# --- which tests run, and where --------------------------------------------------------------------------------------

#: Tests of pages and texts. They use the ORM alone, whose queries Django itself tests on SQLite.
_SAME_ON_SQLITE = (
    "interface/",
    "stats/admin/",
    "stats/text/",
    "stats/test_permissions.py",
)
#: Of these, the tests of pages with SQL of our own.
_OWN_SQL = ("test_filters.py", "test_dashboard_queries.py", "test_pagination.py", "test_export.py")


_START_PROCESSES = [Path(__file__).parent / name for name in ("browser", "e2e", "chaos/test_chaos.py")]

#: Modules that start programs other than the gateway: Python, pip-audit, promtool, servers of their own.
_START_PROGRAMS = (
    "benchmarks/test_measurements.py",
    "benchmarks/test_seed_leads.py",
    "leadgateway/test_tracing.py",
    "leadgateway/test_settings.py",
    "test_dependency_audit.py",
    "test_monitoring_config.py",
    "test_servers.py",
    "test_stages.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)  # the longest first; the rest fills the gaps
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix() in _START_PROGRAMS:
            item.add_marker(pytest.mark.slow)
    if config.getoption("--fast"):
        _keep(config, items, _is_fast)
    elif config.getoption("--sqlite"):
        _keep(config, items, _differs_on_sqlite)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.scheduler import GatewayScheduler

    return GatewayScheduler(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast, do not even import the tests that start processes."""
    return True if config.getoption("--fast") and collection_path in _START_PROCESSES else None


def _keep(config: pytest.Config, items: list[pytest.Item], chosen: Callable[[pytest.Item], bool]) -> None:
    kept = [item for item in items if chosen(item)]
    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = kept


def _is_fast(item: pytest.Item) -> bool:
    """Return whether a test starts no process and takes less than a second."""
    excluded = any(item.get_closest_marker(name) for name in ("alone", "e2e", "needs_postgres", "slow"))
    return not excluded and not {"postgres", "redis"} & set(getattr(item, "fixturenames", ()))


def _differs_on_sqlite(item: pytest.Item) -> bool:
    """Return whether a test can run on SQLite, and whether its result there can differ."""
    if item.get_closest_marker("needs_postgres"):
        return False
    if item.get_closest_marker("e2e"):
        return item.get_closest_marker("embedded") is not None
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    if path.startswith(_SAME_ON_SQLITE) and item.path.name not in _OWN_SQL:
        return False
    fixtures = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or item.get_closest_marker("django_db") is not None


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Start the session's private PostgreSQL. A test that stops or freezes a server starts its own."""
    with _servers["postgres"] as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """Start the session's private Redis. The settings of this process use its database 0."""
    with _servers["redis"] as server:
        yield server


def _on_sqlite(config: pytest.Config) -> bool:
    return bool(config.getoption("--sqlite") or config.getoption("--fast"))


@pytest.fixture(autouse=True, scope="session")
def _redis_is_running(request: pytest.FixtureRequest) -> None:
    """Start Redis for all tests. It starts fast, and a test that enqueues a message need not ask for it."""
    if not _on_sqlite(request.config):
        request.getfixturevalue("redis")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Start PostgreSQL before the test database is created. On SQLite use a file, as in production."""
    if _on_sqlite(request.config):
        from django.db import connections

        database = connections.databases["default"]
        database["TEST"]["NAME"] = str(Path(database["NAME"]).with_name("test.sqlite3"))
        # As fast as a database without fsync: no test loses its machine's power.
        database["OPTIONS"] |= {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}
    else:
        request.getfixturevalue("postgres")


@pytest.fixture(scope="session")
def running_web(django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    """Run the web server in a thread of this process."""
    with ExitStack() as running:
        with django_db_blocker.unblock():
            server = running.enter_context(web_server())
        yield server


@pytest.fixture
def web(running_web: WebServer, transactional_db: None) -> WebServer:
    """Return the web server. Its threads and its event loop have connections to the database of their own."""
    return running_web


@pytest.fixture
def queued_messages() -> Callable[[], list[list[int]]]:
    """Empty the queues and return a function that takes all messages out and returns the lead ids of each.

    New leads come before retries, each in the order of their messages. A message with a countdown is in its queue from
    the start.
    """
    list(_take_messages())  # an earlier test may have left messages of any task
    return lambda: [message.decode()[1]["lead_ids"] for message in _take_messages()]


@pytest.fixture
def queued_leads(queued_messages: Callable[[], list[list[int]]]) -> Callable[[], list[int]]:
    """As `queued_messages`, but the function returns the lead ids of all messages in one list."""
    return lambda: [lead_id for lead_ids in queued_messages() for lead_id in lead_ids]


def _take_messages() -> Iterator[Any]:
    from django.conf import settings

    from leadgateway.celery import app

    channel: Any
    with app.connection_for_read() as connection, connection.channel() as channel:
        for name in (settings.PROCESS_QUEUE, settings.RETRY_QUEUE):
            while message := channel.basic_get(name, no_ack=True):
                yield message


# --- between the tests -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def _append_only_tables_are_cleared() -> Iterator[None]:
    """Clear the tables after a transactional test with DELETE, while the append-only triggers allow changes.

    Django's own way is TRUNCATE, which the triggers refuse, and which takes a hundred times as long for a few rows.
    """
    from django.test import TransactionTestCase

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: _clear_tables())
        yield


def _clear_tables() -> None:
    from django.apps import apps
    from django.db import connection

    from leads.audit.append_only import allow_audit_changes

    # The migrations insert these rows.
    kept = ("auth.permission", "auth.group", "auth.group_permissions", "contenttypes.contenttype")
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.label_lower not in kept]
    with allow_audit_changes(), connection.cursor() as cursor:
        for model in models:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """Clear the cache of the dashboard, and close every circuit breaker, which would make the next test fail fast."""
    from django.core.cache import cache

    from leadgateway.timeouts import Breaker

    cache.clear()
    for name in [
        name for name in list(sys.modules) if name.startswith(("leads.", "leadgateway.", "delivery.", "stats."))
    ]:
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, Breaker):
                value.reset()


@pytest.fixture(autouse=True)
def _only_loopback_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that connects to another machine, even when the tested code catches the error."""
    refused: list[str] = []
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            refused.append(f"{address[0]}:{address[1]}")
            raise OSError(f"a test must not connect to {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield
    assert not refused, f"connected to another machine: {', '.join(refused)}"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


@pytest.fixture
def _few_event_ids(db: None) -> None:
    """Let the next event have the id 1. Ids are not rolled back, and the counters read only the first 50,000."""
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ALTER SEQUENCE lead_event_id_seq RESTART")
