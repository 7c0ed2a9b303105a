"""What a chaos run kills, and the supervisor of each: it starts again whatever has ended, as in production."""

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
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.servers import PostgresServer, RedisServer, Server

#: How many worker processes there are.
WORKERS = 2
#: Seconds between two looks at what should run.
_LOOK = 0.1
#: A process that cannot start while its database is away ends, and is started again: so often at most.
_STARTS = 20


class Target(Protocol):
    """Something that can be killed, wiped or otherwise kept from working, and brought back."""

    def strike(self, way: str) -> None:
        """Do to it what the fault says."""

    def mend(self) -> None:
        """Bring it back, and return when it is ready."""

    def is_well(self) -> bool:
        """Tell whether all of it runs."""


class Processes:
    """So many processes of one line of the Procfile."""

    def __init__(self, gateway: Gateway, name: str, *, count: int = 1) -> None:
        self._gateway, self._name, self._count = gateway, name, count

    def strike(self, way: str) -> None:
        victims = self._gateway.running(self._name)
        for process in victims[:1] if way == "one killed" else victims:
            process.kill()

    def mend(self) -> None:
        for _ in range(_STARTS):
            missing = self._count - len(self._gateway.running(self._name))
            if missing <= 0:
                return
            try:
                for number in range(missing):
                    self._gateway.spawn(self._name, wait=number == missing - 1)
            except AssertionError:
                time.sleep(_LOOK)  # it ended while it started; the next one may have more luck
        raise AssertionError(f"{self._name} does not start:\n{self._gateway.logs(self._name)[-4000:]}")

    def is_well(self) -> bool:
        return len(self._gateway.running(self._name)) >= self._count


class Postgres:
    """The database server, with every process it has; it recovers from its log when it starts."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def strike(self, way: str) -> None:
        self._server.kill()

    def mend(self) -> None:
        if not self.is_well():
            self._server.kill()  # what a server that ended by itself has left
            self._server.start()

    def is_well(self) -> bool:
        return self._server.process.is_running


class Redis(Postgres):
    """The broker: killed with its append-only file kept, or with that lost too."""

    def strike(self, way: str) -> None:
        self._server.kill()
        if way == "killed and wiped":
            shutil.rmtree(self._server.process.cwd / "appendonlydir", ignore_errors=True)


class Doorbells:
    """The directory that is the queue where there is no broker."""

    def __init__(self, gateway: Gateway) -> None:
        self._directory = gateway.directory / "queue"

    def strike(self, way: str) -> None:
        for message in self._directory.glob("*.msg"):
            message.unlink(missing_ok=True)

    def mend(self) -> None:
        """There is nothing to bring back."""

    def is_well(self) -> bool:
        return True


class Customer:
    """The Customer API; it keeps its ledger whatever it answers."""

    _MODES = {"answers 503": "status=503", "hangs": "hang=1", "resets": "reset=1"}

    def __init__(self, customer: DemoCustomer) -> None:
        self._customer = customer

    def strike(self, way: str) -> None:
        self._customer.set_mode(self._MODES[way])

    def mend(self) -> None:
        self._customer.set_mode("")

    def is_well(self) -> bool:
        return True


def all_targets(
    gateway: Gateway,
    customer: DemoCustomer,
    *,
    postgres: PostgresServer | None = None,
    redis: RedisServer | None = None,
) -> dict[str, Target]:
    """Return everything of a gateway that can be struck, by the names of the plan."""
    targets: dict[str, Target] = {
        "web": Processes(gateway, "web"),
        "worker": Processes(gateway, "worker", count=WORKERS),
        "beat": Processes(gateway, "beat"),
        "customer": Customer(customer),
    }
    if postgres and redis:
        return targets | {"PostgreSQL": Postgres(postgres), "Redis": Redis(redis)}
    return targets | {"doorbells": Doorbells(gateway)}


# --- supervisors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outage:
    """What was struck, how, from when until when (Unix time)."""

    target: str
    way: str
    began: float
    ended: float


class Supervisors:
    """One for each target: they strike by the plan, and start again whatever has ended, also by itself.

    :param tell: is called with a line about everything that happens.
    """

    def __init__(self, targets: dict[str, Target], plan: Sequence[Fault], *, tell: Callable[[str], None]) -> None:
        self.outages: list[Outage] = []
        self._targets, self._plan, self._tell = targets, plan, tell
        self._began = 0.0
        self._over = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Strike while the block runs, and after it until everything is up; the plan's time begins now."""
        self._began = time.time()
        with ThreadPoolExecutor(len(self._targets)) as pool:
            running = [pool.submit(self._supervise, name) for name in self._targets]
            try:
                yield
            finally:
                self._over.set()
        for supervisor in running:
            supervisor.result()

    def _supervise(self, name: str) -> None:
        for fault in self._plan:
            if fault.target == name:
                self._watch(name, until=self._began + fault.at)
                if self._over.is_set():
                    return
                self._carry_out(fault)
        self._watch(name)

    def _watch(self, name: str, *, until: float = float("inf")) -> None:
        target = self._targets[name]
        while time.time() < until and not self._over.wait(min(_LOOK, max(0.0, until - time.time()))):
            if not target.is_well():
                self._say(name, "ended by itself")
                self._bring_back(name, "ended by itself", began=time.time())

    def _carry_out(self, fault: Fault) -> None:
        began = time.time()
        self._targets[fault.target].strike(fault.way)
        self._say(fault.target, fault.way)
        self._over.wait(fault.down)
        self._bring_back(fault.target, fault.way, began=began)

    def _bring_back(self, name: str, way: str, *, began: float) -> None:
        self._targets[name].mend()
        self.outages.append(Outage(name, way, began, time.time()))
        self._say(name, f"back after {time.time() - began:.1f} s")

    def _say(self, name: str, what: str) -> None:
        self._tell(f"{time.time() - self._began:7.1f} s  {name:<11} {what}")
