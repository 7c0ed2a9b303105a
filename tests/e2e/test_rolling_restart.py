"""Replace web and worker under load: every post is accepted, and every lead is sent exactly once."""

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
from tests.e2e.senders import PostResult, accepted, assert_sent_once, under_load
from tests.environment import ROOT
from tests.hostile_customer import HostileCustomer
from tests.processes import exists, process_table, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Supervisor:
    """Receive a service's state notifications, as systemd does with NotifyAccess=all."""

    def __init__(self) -> None:
        self.address = str(scratch_directory("systemd") / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def notifications(self) -> list[str]:
        """Return the notifications received since the last call."""
        received: list[str] = []
        with suppress(BlockingIOError):
            while True:
                received += self._socket.recv(4096).decode().splitlines()
        return received

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with closing(Supervisor()) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def mapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the mapping file that a test may overwrite."""
    return Path(shutil.copy(ROOT / "config" / "customer_attribute_mapping.json", tmp_path_factory.mktemp("mapping")))


@pytest.fixture(scope="module")
def gateway(
    postgres: PostgresServer,
    redis: RedisServer,
    running_customer: HostileCustomer,
    supervisor: Supervisor,
    mapping: Path,
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
    first.kill()  # and the server that replaced it
    gateway.stop()


def children(pid: int) -> set[int]:
    """Return the child processes of a server: its workers, and a new server until the old one ends."""
    return {process.pid for process in process_table() if process.parent == pid and not process.is_zombie}


def assert_all_accepted(results: list[PostResult]) -> None:
    """Check that no connection broke and no post was refused."""
    assert len(results) > 20, "there was no load: the test proves nothing"
    assert Counter(result.status for result in results).keys() == {200}


def assert_delivered_once(gateway: Gateway, customer: HostileCustomer, lead_ids: list[int]) -> None:
    gateway.wait_for_all("DELIVERED", lead_ids, timeout=45)
    assert_sent_once(gateway, customer, lead_ids)


def test_a_new_version_that_cannot_start_leaves_the_old_one_running(gateway: Gateway, mapping: Path) -> None:
    good = mapping.read_text()
    [old] = gateway.running("web")
    workers = children(old.pid)
    mapping.write_text("{")

    os.kill(old.pid, signal.SIGUSR2)

    wait_until(lambda: "Lead Gateway does not start" in gateway.logs("web"), 30, "the new version's refusal")
    wait_until(lambda: children(old.pid) == workers, 30, "its end")
    mapping.write_text(good)
    gateway.accept({"zipcode": "12345"})


def test_replacing_the_web_server_loses_no_request(
    gateway: Gateway, customer: HostileCustomer, supervisor: Supervisor
) -> None:
    [old] = gateway.running("web")
    workers = children(old.pid)
    supervisor.notifications()
    with under_load(gateway, senders=3, keep_alive=True) as results:
        wait_until(lambda: len(results) > 20, 20, "load")
        os.kill(old.pid, signal.SIGUSR2)
        wait_until(lambda: children(old.pid) > workers, 30, "the new server")
        [new] = children(old.pid) - workers
        wait_until(lambda: not old.is_running, 60, "the end of the old server")
        after = len(results)
        wait_until(lambda: len(results) > after + 20, 20, "leads accepted by the new server")

    assert_all_accepted(results)
    assert old.exit_code == 0
    assert exists(new)
    assert supervisor.notifications()[-1] == f"MAINPID={new}"
    assert_delivered_once(gateway, customer, accepted(results))


def test_replacing_the_worker_sends_each_lead_once(gateway: Gateway, customer: HostileCustomer) -> None:
    customer.set_mode("delay=200ms")  # so that the old worker is delivering when it is terminated
    [old] = gateway.running("worker")
    with under_load(gateway) as results:
        wait_until(lambda: len(results) > 20, 20, "load")
        gateway.spawn("worker")
        os.kill(old.pid, signal.SIGTERM)
        assert old.wait(30) == 0

    assert_all_accepted(results)
    assert_delivered_once(gateway, customer, accepted(results))
    assert not gateway.rows("SELECT id FROM delivery_attempt WHERE finished_at IS NULL")
