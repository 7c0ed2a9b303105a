"""Statistics and health while a server is stopped or frozen, with a real web process on servers of its own."""

import time
from collections.abc import Iterator

import pytest
import requests

from tests.e2e.gateway import Gateway
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.alone]

READY = "/health/ready"
STATISTICS = ["/stats/leads/counts", "/stats/leads/recent", "/stats/leads/1/history"]

#: The limit of the specification. The median of a few tries counts, because the machine may be busy.
MAX_SECONDS = 0.5
TRIES = 4


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def running_gateway(database: PostgresServer, broker: RedisServer) -> Iterator[Gateway]:
    gateway = Gateway(customer_url="http://127.0.0.1:1/closed", postgres=database, redis=broker, WEB_ANSWER_TIMEOUT="")
    yield gateway.start(worker=0, beat=0)
    gateway.stop()


@pytest.fixture
def gateway(running_gateway: Gateway, database: PostgresServer, broker: RedisServer) -> Iterator[Gateway]:
    wait_until(lambda: is_ready(running_gateway), 30, "readiness")
    yield running_gateway
    for server in (database, broker):
        if server.process.is_running:
            server.thaw()
        else:
            server.start()
    wait_until(lambda: is_ready(running_gateway), 20, "readiness after the test")


def is_ready(gateway: Gateway) -> bool:
    return gateway.get(READY).json()["status"] == "ready"


def answers_in_time(gateway: Gateway, path: str, limit: float = MAX_SECONDS) -> list[requests.Response]:
    """Return a few responses, after an assertion about their median duration in seconds."""
    answers, seconds = [], []
    for _ in range(TRIES):
        started = time.monotonic()
        answers.append(gateway.get(path))
        seconds.append(time.monotonic() - started)
    assert sorted(seconds)[TRIES // 2] < limit, seconds
    return answers


@pytest.mark.parametrize("fault", ["freeze", "stop"])
@pytest.mark.parametrize(
    ("servers", "status", "code"),
    [(["database"], "not ready", 503), (["broker"], "degraded", 200), (["database", "broker"], "not ready", 503)],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_ready_answers_in_time_without_its_servers(request, gateway, fault, servers, status, code):
    for name in servers:
        getattr(request.getfixturevalue(name), fault)()

    for answer in answers_in_time(gateway, READY):
        assert (answer.status_code, answer.json()["status"]) == (code, status)
    assert {name: check["ok"] for name, check in answer.json()["checks"].items() if name != "migrations"} == {
        "database": "database" not in servers,
        "queue": "broker" not in servers,
        "mapping": True,
    }


@pytest.mark.parametrize("fault", ["freeze", "stop"])
def test_statistics_are_refused_in_time_without_the_database(gateway, database, fault):
    getattr(database, fault)()

    for path in STATISTICS:
        for answer in answers_in_time(gateway, path):
            assert (answer.status_code, answer.json()["error"]) == (503, "database error")


@pytest.mark.parametrize("fault", ["freeze", "stop"])
def test_health_and_metrics_answer_in_time_without_any_server(gateway, database, broker, fault):
    for server in (database, broker):
        getattr(server, fault)()

    for answer in answers_in_time(gateway, "/health"):
        assert (answer.status_code, answer.text) == (200, "OK")
    for answer in answers_in_time(gateway, "/metrics", limit=2 * MAX_SECONDS):
        assert answer.status_code == 200
        assert {"lead_gateway_database_up 0.0", "lead_gateway_queue_up 0.0"} <= set(answer.text.splitlines())
        assert "lead_gateway_webhook_seconds_count" in answer.text
        assert "lead_gateway_leads_accepted" not in answer.text  # no value rather than a wrong one


def test_statistics_do_not_need_the_queue(gateway, broker):
    broker.freeze()

    assert [gateway.get(path).status_code for path in STATISTICS] == [200, 200, 404]
