"""Statistics and health while a server is stopped or frozen, with a real web process on servers of its own."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import environment
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.alone]

READY = "/health/ready"
STATISTICS = ["/stats/leads/counts", "/stats/leads/recent", "/stats/leads/1/history"]

#: The limit of the specification. The median of a few tries counts, because the machine may be busy.
MAX_SECONDS = 0.5
TRIES = 4


@dataclass
class Gateway:
    postgres: PostgresServer
    redis: RedisServer
    port: int

    def get(self, path: str) -> tuple[int, str, float]:
        """Return status, body and duration in seconds."""
        started = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                status, body = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read().decode()
        return status, body, time.monotonic() - started

    def ready(self) -> str:
        return json.loads(self.get(READY)[1])["status"]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with PostgresServer() as postgres, RedisServer() as redis:
        port = free_port()
        # One process, whose first, slower connections are made before it serves requests.
        ours = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "WEB_PROCESSES": "1"}
        env = environment.of_a_process(**postgres.env, **redis.env, **ours, VAR_DIR=str(scratch_directory("var")))
        postgres.create_database("lead_gateway")
        _run(["python", "manage.py", "migrate", "-v0"], env)
        gunicorn = ["gunicorn", "-c", "python:leadgateway.server.config", "leadgateway.asgi"]
        web = Process(gunicorn, env=env, cwd=environment.ROOT, log=scratch_directory("web") / "log")
        web.start()
        gateway = Gateway(postgres, redis, port)
        try:
            wait_until(lambda: _is_up(gateway), 30, f"the web server: {web.output()}")
            yield gateway
        finally:
            web.stop()


def _run(command: list[str], env: dict[str, str]) -> None:
    process = Process(command, env=env, cwd=environment.ROOT, log=scratch_directory("run") / "log")
    process.start()
    wait_until(lambda: not process.is_running, 60, f"{command}: {process.output()}")
    assert process.exit_code == 0, process.output()


def _is_up(gateway: Gateway) -> bool:
    try:
        return gateway.ready() == "ready"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _ready_before_and_after(gateway: Gateway) -> Iterator[None]:
    wait_until(lambda: gateway.ready() == "ready", 10, "readiness")
    yield
    for server in (gateway.postgres, gateway.redis):
        if server.process.is_running:
            server.thaw()
        else:
            server.start()
    wait_until(lambda: gateway.ready() == "ready", 20, "readiness after the test")


@pytest.mark.parametrize("fault", ["freeze", "stop"])
@pytest.mark.parametrize(
    ("servers", "status", "code"),
    [
        (["postgres"], "not ready", 503),
        (["redis"], "degraded", 200),
        (["postgres", "redis"], "not ready", 503),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_ready_answers_in_time_without_its_servers(gateway, fault, servers, status, code):
    for name in servers:
        getattr(getattr(gateway, name), fault)()

    answers = [gateway.get(READY) for _ in range(TRIES)]

    assert {answer[0] for answer in answers} == {code}
    assert {json.loads(answer[1])["status"] for answer in answers} == {status}
    checks = json.loads(answers[-1][1])["checks"]
    assert checks["database"]["ok"] is ("postgres" not in servers)
    assert checks["queue"]["ok"] is ("redis" not in servers)
    assert checks["mapping"]["ok"] is True
    assert sorted(answer[2] for answer in answers)[TRIES // 2] < MAX_SECONDS, answers


@pytest.mark.parametrize("fault", ["freeze", "stop"])
def test_statistics_are_refused_in_time_without_the_database(gateway, fault):
    getattr(gateway.postgres, fault)()

    for path in STATISTICS:
        answers = [gateway.get(path) for _ in range(TRIES)]

        assert {answer[0] for answer in answers} == {503}
        assert {json.loads(answer[1])["error"] for answer in answers} == {"database error"}
        assert sorted(answer[2] for answer in answers)[TRIES // 2] < MAX_SECONDS, answers


@pytest.mark.parametrize("fault", ["freeze", "stop"])
def test_health_and_metrics_answer_in_time_without_any_server(gateway, fault):
    for server in (gateway.postgres, gateway.redis):
        getattr(server, fault)()

    health = [gateway.get("/health") for _ in range(TRIES)]
    answers = [gateway.get("/metrics") for _ in range(TRIES)]

    assert {answer[:2] for answer in health} == {(200, "OK")}
    assert sorted(answer[2] for answer in health)[TRIES // 2] < MAX_SECONDS, health
    assert {answer[0] for answer in answers} == {200}
    for _, body, _ in answers:
        assert {"lead_gateway_database_up 0.0", "lead_gateway_queue_up 0.0"} <= set(body.splitlines())
        assert "lead_gateway_webhook_seconds_count" in body
        assert "lead_gateway_leads_accepted" not in body  # no value rather than a wrong one
    assert sorted(answer[2] for answer in answers)[TRIES // 2] < 2 * MAX_SECONDS, answers


def test_statistics_do_not_need_the_queue(gateway):
    gateway.redis.freeze()

    assert gateway.get(STATISTICS[0])[0] == 200
    assert gateway.get(STATISTICS[1])[1] == "[]"
    assert gateway.get(STATISTICS[2])[0] == 404
