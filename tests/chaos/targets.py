"""The targets of a chaos run, and their supervisors, which restart ended processes as in production."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.chaos.plan import Fault
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.servers import PostgresServer, RedisServer, Server

#: Number of worker processes.
WORKERS = 2
#: Seconds between two checks of a target.
_CHECK_INTERVAL = 0.1
#: Maximum number of starts of a process that ends because its database is unavailable.
_MAX_STARTS = 20


class Target(Protocol):
    """A part of the system that a fault can hit."""

    def inject(self, kind: str) -> None:
        """Inject a fault."""

    def restore(self) -> None:
        """Restore the target, and return when it is ready."""

    def is_running(self) -> bool:
        """Return whether the whole target runs."""


class Processes:
    """The processes of one command of the Procfile."""

    def __init__(self, gateway: Gateway, name: str, *, count: int = 1) -> None:
        self._gateway, self._name, self._count = gateway, name, count

    def inject(self, kind: str) -> None:
        victims = self._gateway.running(self._name)
        for process in victims[:1] if kind == "one killed" else victims:
            process.kill()

    def restore(self) -> None:
        for _ in range(_MAX_STARTS):
            missing = self._count - len(self._gateway.running(self._name))
            if missing <= 0:
                return
            try:
                for number in range(missing):
                    self._gateway.spawn(self._name, wait=number == missing - 1)
            except AssertionError:
                time.sleep(_CHECK_INTERVAL)  # the process ended during its start
        raise AssertionError(f"{self._name} does not start:\n{self._gateway.logs(self._name)[-4000:]}")

    def is_running(self) -> bool:
        return len(self._gateway.running(self._name)) >= self._count


class Postgres:
    """The database server with all its processes. It recovers from its log when it starts."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def inject(self, kind: str) -> None:
        self._server.kill()

    def restore(self) -> None:
        if not self.is_running():
            self._server.kill()  # remaining processes of a server that stopped unexpectedly
            self._server.start()

    def is_running(self) -> bool:
        return self._server.process.is_running


class Redis(Postgres):
    """The broker. A fault kills it, and may delete its append-only file."""

    def inject(self, kind: str) -> None:
        self._server.kill()
        if kind == "killed and wiped":
            shutil.rmtree(self._server.process.cwd / "appendonlydir", ignore_errors=True)


class Messages:
    """The files of the queue without a broker."""

    def __init__(self, gateway: Gateway) -> None:
        self._directory = gateway.directory / "queue"

    def inject(self, kind: str) -> None:
        for message in self._directory.glob("*.msg"):
            message.unlink(missing_ok=True)

    def restore(self) -> None:
        """Do nothing: the sweep enqueues the leads again."""

    def is_running(self) -> bool:
        return True


class Customer:
    """The Customer API. It keeps its ledger in every mode."""

    _MODES = {"answers 503": "status=503", "hangs": "hang=1", "resets": "reset=1"}

    def __init__(self, customer: HostileCustomer) -> None:
        self._customer = customer

    def inject(self, kind: str) -> None:
        self._customer.set_mode(self._MODES[kind])

    def restore(self) -> None:
        self._customer.set_mode("")

    def is_running(self) -> bool:
        return True


def all_targets(
    gateway: Gateway,
    customer: HostileCustomer,
    *,
    postgres: PostgresServer | None = None,
    redis: RedisServer | None = None,
) -> dict[str, Target]:
    """Return the targets of a gateway by their names in the plan."""
    targets: dict[str, Target] = {
        "web": Processes(gateway, "web"),
        "worker": Processes(gateway, "worker", count=WORKERS),
        "beat": Processes(gateway, "beat"),
        "customer": Customer(customer),
    }
    if postgres and redis:
        return targets | {"PostgreSQL": Postgres(postgres), "Redis": Redis(redis)}
    return targets | {"messages": Messages(gateway)}


# --- supervisors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outage:
    """A fault that was injected, with its start and end (Unix time)."""

    target: str
    kind: str
    began: float
    ended: float


class Supervisors:
    """Inject the planned faults, one thread per target, and restart targets that have ended.

    :param report: Called with a line for every event.
    """

    def __init__(self, targets: dict[str, Target], plan: Sequence[Fault], *, report: Callable[[str], None]) -> None:
        self.outages: list[Outage] = []
        self._targets, self._plan, self._report = targets, plan, report
        self._began = 0.0
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inject faults while the block runs, and return when every target runs. The plan's time starts now."""
        self._began = time.time()
        with ThreadPoolExecutor(len(self._targets)) as pool:
            futures = [pool.submit(self._supervise, name) for name in self._targets]
            try:
                yield
            finally:
                self._stop.set()
        for future in futures:
            future.result()

    def _supervise(self, name: str) -> None:
        for fault in self._plan:
            if fault.target == name:
                self._watch(name, until=self._began + fault.at)
                if self._stop.is_set():
                    return
                self._inject(fault)
        self._watch(name)

    def _watch(self, name: str, *, until: float = float("inf")) -> None:
        target = self._targets[name]
        while time.time() < until and not self._stop.wait(min(_CHECK_INTERVAL, max(0.0, until - time.time()))):
            if not target.is_running():
                self._log(name, "stopped unexpectedly")
                self._restore(name, "stopped unexpectedly", began=time.time())

    def _inject(self, fault: Fault) -> None:
        began = time.time()
        self._targets[fault.target].inject(fault.kind)
        self._log(fault.target, fault.kind)
        self._stop.wait(fault.down)
        self._restore(fault.target, fault.kind, began=began)

    def _restore(self, name: str, kind: str, *, began: float) -> None:
        self._targets[name].restore()
        self.outages.append(Outage(name, kind, began, time.time()))
        self._log(name, f"restored after {time.time() - began:.1f} s")

    def _log(self, name: str, event: str) -> None:
        self._report(f"{time.time() - self._began:7.1f} s  {name:<11} {event}")
