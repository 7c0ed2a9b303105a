"""A new version takes over while leads come in: no sender notices, and no lead is sent twice or left behind."""

import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import Told, accepted, under_load
from tests.environment import ROOT
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.processes import is_alive, process_table, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Supervisor:
    """The end of systemd that services tell their state; it believes everything that runs in the service."""

    def __init__(self) -> None:
        self.address = str(scratch_directory("systemd") / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Return what was said since the last call."""
        said = []
        with suppress(BlockingIOError):
            while True:
                said += self._socket.recv(4096).decode().splitlines()
        return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with closing(Supervisor()) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mapping file that a test may spoil."""
    return Path(shutil.copy(ROOT / "config" / "customer_attribute_mapping.json", tmp_path_factory.mktemp("mapping")))


@pytest.fixture(scope="module")
def gateway(
    postgres: PostgresServer, redis: RedisServer, running_customer: DemoCustomer, supervisor: Supervisor, mapping: Path
) -> Iterator[Gateway]:
    redis.flush()
    servers = {"postgres": postgres, "redis": redis, "redis_database": 4}
    gateway = Gateway(
        customer_url=running_customer.url, WEB_PROCESSES="2", ATTRIBUTE_MAPPING_FILE=str(mapping), **servers
    )
    gateway.env["NOTIFY_SOCKET"] = supervisor.address
    gateway.start()
    [first] = gateway.running("web")
    yield gateway
    first.kill()  # and who took over from it
    gateway.stop()


def children(pid: int) -> set[int]:
    """Return whom a server has started: its workers, and a new server until the old one ends."""
    return {process.pid for process in process_table() if process.parent == pid and not process.is_zombie}


def assert_all_answered(told: list[Told]) -> None:
    """No connection broke, and nobody was sent away."""
    assert len(told) > 20, "there was no load: the test shows nothing"
    assert Counter(answer.status for answer in told).keys() == {200}


def assert_sent_once(gateway: Gateway, customer: DemoCustomer, lead_ids: list[int]) -> None:
    gateway.wait_for_all("DELIVERED", lead_ids, timeout=45)
    sent = Counter(request["idempotency_key"] for request in customer.requests)
    keys = {lead["id"]: lead["idempotency_key"] for lead in gateway.leads()}
    assert {sent[keys[lead_id]] for lead_id in lead_ids} == {1}


def test_a_new_version_that_cannot_start_leaves_the_old_one_alone(gateway: Gateway, mapping: Path) -> None:
    good = mapping.read_text()
    [old] = gateway.running("web")
    workers = children(old.pid)
    mapping.write_text("{")

    os.kill(old.pid, signal.SIGUSR2)

    wait_until(lambda: "Lead Gateway does not start" in gateway.logs("web"), 30, "the new version's refusal")
    wait_until(lambda: children(old.pid) == workers, 30, "its end")
    mapping.write_text(good)
    gateway.accept({"zipcode": "12345"})


def test_a_new_web_server_takes_over_without_a_request_that_is_not_answered(
    gateway: Gateway, customer: DemoCustomer, supervisor: Supervisor
) -> None:
    [old] = gateway.running("web")
    workers = children(old.pid)
    supervisor.heard()
    with under_load(gateway, senders=3, keep_alive=True) as told:
        wait_until(lambda: len(told) > 20, 20, "load")
        os.kill(old.pid, signal.SIGUSR2)
        wait_until(lambda: children(old.pid) > workers, 30, "the new server")
        [new] = children(old.pid) - workers
        wait_until(lambda: not old.is_running, 60, "the end of the old server")
        after = len(told)
        wait_until(lambda: len(told) > after + 20, 20, "leads that the new server took")

    assert_all_answered(told)
    assert old.exit_code == 0
    assert is_alive(new)
    assert supervisor.heard()[-1] == f"MAINPID={new}"
    assert_sent_once(gateway, customer, accepted(told))


def test_a_new_worker_takes_over_without_a_lead_that_is_sent_twice_or_late(
    gateway: Gateway, customer: DemoCustomer
) -> None:
    customer.set_mode("delay=200ms")  # so that the old worker is at something when it is asked to end
    [old] = gateway.running("worker")
    with under_load(gateway) as told:
        wait_until(lambda: len(told) > 20, 20, "load")
        gateway.spawn("worker")
        os.kill(old.pid, signal.SIGTERM)
        assert old.wait(30) == 0

    assert_all_answered(told)
    assert_sent_once(gateway, customer, accepted(told))
    assert not gateway.rows("SELECT id FROM delivery_attempt WHERE finished_at IS NULL")
