"""`make bench`: measure the gateway on private servers, and compare it with its goals.

The figures are those of this machine, which runs senders, servers and the customer on the same cores. Compare ratios:
pgbench, which stores bare rows, takes turns with the gateway.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import requests

from benchmarks.load import percentile, steady_load
from benchmarks.rates import Posts, bare_insert, pgbench, wrk
from benchmarks.report import Report
from benchmarks.servers import SEEDED, OrdinaryPostgres, SeededPostgres
from benchmarks.sink import Sink
from benchmarks.usage import cpu_seconds, memory_mb
from tests import processes
from tests.e2e.gateway import Gateway
from tests.environment import ROOT, of_a_process
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer, ServerMissing, postgres_binary, program, redis_binary

#: Minimum ratio of accepted leads to pgbench's rows, by the number of connections.
SHARES = {16: 0.15, 64: 0.21}

#: The gateway of the tests has short intervals. These settings get their defaults back.
_DEFAULTS = dict.fromkeys(
    (
        *("WEB_PROCESSES", "WEB_ANSWER_TIMEOUT", "WORKER_CONCURRENCY", "WORKER_POLL_INTERVAL", "REQUEUE_AFTER"),
        *("CUSTOMER_API_TIMEOUT", "RETRY_BACKOFF_BASE", "CIRCUIT_BACKOFF_BASE", "CIRCUIT_BACKOFF_MAX"),
    ),
    "",
)
_GATEWAY = ("web", "worker", "beat")

#: A lead that a worker still has to deliver. Sample leads that failed are due later.
_OPEN = "SELECT id FROM inbound_lead WHERE status IN ('RECEIVED', 'READY') LIMIT 1"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    :param turn: Seconds of each turn of pgbench and wrk.
    :param rest: Seconds without any lead, and then with 50 a second.
    :param backlog: Number of leads that wait when the worker starts.
    """

    turn: int = 5
    rest: int = 20
    backlog: int = 10_000
    turns: int = 3


@dataclass(frozen=True)
class Servers:
    """What a gateway needs. The template is the database that it starts with."""

    postgres: PostgresServer
    redis: RedisServer
    customer: Sink
    template: str | None

    @contextmanager
    def gateway(self, *, redis_database: int = 0, worker: int = 1) -> Iterator[Gateway]:
        """Run a gateway with the default settings and a new database."""
        gateway = Gateway(
            postgres=self.postgres,
            redis=self.redis,
            redis_database=redis_database,
            customer_url=self.customer.url,
            template=self.template,
            **_DEFAULTS,
        )
        gateway.start(worker=worker, beat=worker)
        try:
            yield gateway
        finally:
            gateway.stop()

    def used_by(self, gateway: Gateway, *names: str) -> dict[str, Process]:
        """Return the processes with these names and the servers."""
        ours = {name: gateway.running(name)[-1] for name in names}
        return {**ours, "PostgreSQL": self.postgres.process, "Redis": self.redis.process}


@contextmanager
def servers(leads: int = 0) -> Iterator[Servers]:
    """Run the servers of a gateway, and end them after the block."""
    with SeededPostgres(leads) if leads else OrdinaryPostgres() as postgres, RedisServer() as redis, Sink() as customer:
        yield Servers(postgres, redis, customer, SEEDED if leads else None)


def main() -> None:
    """Run the measurements, print the table, and write it to benchmarks/results/."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="measure less, and write no file")
    arguments.add_argument("--size", type=int, default=0, metavar="LEADS", help="leads in the database before")
    options = arguments.parse_args()
    _check_programs()
    plan, report = Plan(turn=2, rest=5, backlog=2_000) if options.quick else Plan(), Report(options.size)
    with servers(options.size) as ours:
        _measure_webhook(ours, plan, report)
        _measure_delivery(ours, plan, report)
    _measure_start(report)
    print(f"\n{report.text()}")
    if not options.quick:
        print(f"Written to {report.write().relative_to(ROOT)}")


def _check_programs() -> None:
    try:
        program("wrk", package="wrk")
        postgres_binary("pgbench")
        redis_binary()
    except ServerMissing as error:
        sys.exit(f"{error}")


# --- the webhook -----------------------------------------------------------------------------------------------------


def _measure_webhook(ours: Servers, plan: Plan, report: Report) -> None:
    """Measure the web server and pgbench in turns. No worker runs, so the leads stay in the queue."""
    script, posts, cpu = scratch_directory("pgbench") / "insert.sql", dict[int, list[Posts]](), dict[str, float]()
    with ours.gateway(worker=0) as gateway:
        wrk(gateway.url, connections=16, seconds=1)  # warm up
        database = ours.postgres.url_of(gateway.env["DB_NAME"])
        bare_insert(database, script)
        stored = _count(gateway)
        for connections in SHARES:
            floor, posts[connections] = [], []
            for _ in range(plan.turns):
                floor.append(pgbench(database, script, connections=connections, seconds=plan.turn))
                with cpu_seconds(ours.used_by(gateway, "web")) as used:
                    posts[connections].append(wrk(gateway.url, connections=connections, seconds=plan.turn))
                cpu = {name: cpu.get(name, 0.0) + seconds for name, seconds in used.items()}
            _report_rates(report, connections, floor, posts[connections])
        accepted = sum(post.accepted for turns in posts.values() for post in turns)
        wait_until(lambda: requests.get(f"{gateway.url}/health", timeout=5).ok, 10, "the last requests")
        cut_off = plan.turns * sum(SHARES)
        failed = sum(post.failed for turns in posts.values() for post in turns)
        _compare_stored(report, accepted, _count(gateway) - stored, without_200=cut_off + failed)
    report.add("CPU per accepted lead", _per_lead(cpu, accepted))


def _report_rates(report: Report, connections: int, floor: list[float], posts: list[Posts]) -> None:
    p50, p99 = median(post.p50 for post in posts), median(post.p99 for post in posts)
    share, goal = median(post.per_second / rows for post, rows in zip(posts, floor, strict=True)), SHARES[connections]
    failed, limit = sum(post.failed for post in posts), "≤ 25 ms" if connections == 16 else ""
    title = f"{connections} connections"
    report.add(f"{title}: pgbench, bare INSERTs/s", f"{median(floor):,.0f}")
    report.add(f"{title}: accepted leads/s", f"{median(post.per_second for post in posts):,.0f}")
    report.add(f"{title}: share of pgbench", f"{share:.3f}", goal=f"≥ {goal}", met=share >= goal)
    report.add(f"{title}: response time p50, p99", f"{p50:.1f} ms, {p99:.1f} ms", goal=limit, met=p99 <= 25)
    report.add(f"{title}: requests without a 200", f"{failed}", goal="0", met=not failed)


def _compare_stored(report: Report, accepted: int, stored: int, *, without_200: int) -> None:
    """Compare the leads in the database with the 200 responses.

    :param without_200: Maximum number of leads that can be stored without one: the requests that failed, and the last
        of each connection, since wrk does not wait for it at the end of a turn.
    """
    value = f"{stored:,}, {accepted:,}; others {stored - accepted}"
    is_right = 0 <= stored - accepted <= without_200
    report.add("stored leads, 200 responses", value, goal=f"equal, others ≤ {without_200}", met=is_right)


def _count(gateway: Gateway) -> int:
    return int(gateway.rows("SELECT count(*) AS n FROM inbound_lead")[0]["n"])


def _per_lead(cpu: Mapping[str, float], leads: int) -> str:
    parts = [f"{name} {seconds / leads * 1000:.2f}" for name, seconds in cpu.items()]
    return f"{sum(cpu.values()) / leads * 1000:.2f} ms: {', '.join(parts)}"


# --- delivery, memory, idle ------------------------------------------------------------------------------------------


def _measure_delivery(ours: Servers, plan: Plan, report: Report) -> None:
    """Measure web, worker and beat at rest, with 50 leads a second, and with a backlog."""
    with ours.gateway(redis_database=1) as gateway:
        time.sleep(plan.rest / 4)  # until the processes have started completely
        _report_memory(report, "at rest", gateway)
        with cpu_seconds(ours.used_by(gateway, *_GATEWAY)) as cpu:
            time.sleep(plan.rest)
        idle = sum(cpu[name] for name in _GATEWAY) / plan.rest * 100
        parts = ", ".join(f"{name} {seconds / plan.rest * 100:.1f}" for name, seconds in cpu.items())
        report.add("CPU at rest: web, worker, beat", f"{idle:.1f} % of a core: {parts}", goal="< 2 %", met=idle < 2)
        _measure_latency(ours, gateway, plan, report)
        _measure_backlog(ours, gateway, plan, report)
        _report_memory(report, "after the run", gateway)
        report.add("audit log", gateway.manage("verify_audit_log", "--since", "1h").strip())


def _report_memory(report: Report, when: str, gateway: Gateway) -> None:
    used = {name: memory_mb(gateway.running(name)[-1]) for name in _GATEWAY}
    total, parts = sum(used.values()), ", ".join(f"{name} {size:.0f}" for name, size in used.items())
    report.add(f"memory (PSS) {when}", f"{total:.0f} MB: {parts}", goal="≤ 350 MB", met=total <= 350)


def _measure_latency(ours: Servers, gateway: Gateway, plan: Plan, report: Report) -> None:
    with steady_load(port=gateway.port, senders=5, every=0.1) as load:
        time.sleep(plan.rest)
    wait_until(lambda: load.accepted.keys() <= _arrived(ours.customer), 60, "the leads at the customer")
    waits = arrival_times(load.accepted, ours.customer)
    report.add(
        "accepted to arrived at 50/s: p50, p99", f"{percentile(waits, 0.5):.0f} ms, {percentile(waits, 0.99):.0f} ms"
    )


def arrival_times(accepted: Mapping[str, float], customer: Sink) -> list[float]:
    """Return the milliseconds from the response of the webhook to the arrival at the customer, 0 if it came before."""
    arrivals = {arrival.correlation_id: arrival.at for arrival in customer.arrivals}
    return [max(0.0, arrivals[lead] - at) * 1000 for lead, at in accepted.items()]


def _arrived(customer: Sink) -> set[str]:
    return {arrival.correlation_id for arrival in customer.arrivals}


def _measure_backlog(ours: Servers, gateway: Gateway, plan: Plan, report: Report) -> None:
    """Measure how fast the worker delivers leads that wait for it."""
    for name in ("worker", "beat"):
        gateway.terminate(name)
    stored, before = _count(gateway), len(ours.customer.arrivals)
    while (backlog := _count(gateway) - stored) < plan.backlog:
        wrk(gateway.url, connections=16, seconds=1)
    for name in ("worker", "beat"):
        gateway.spawn(name)
    with cpu_seconds(ours.used_by(gateway, "worker", "beat")) as cpu:
        what = "the backlog at the customer"
        wait_until(lambda: len(ours.customer.arrivals) - before >= backlog, 900, what, pause=0.2)
    wait_until(lambda: not gateway.rows(_OPEN), 30, "the end of the deliveries", pause=0.5)
    arrivals = ours.customer.arrivals[before:]
    rate = (len(arrivals) - 1) / (arrivals[-1].at - arrivals[0].at)
    report.add(f"backlog of {backlog:,}: deliveries/s", f"{rate:,.0f}", goal="≥ 600", met=rate >= 600)
    twice = len(arrivals) - len({arrival.idempotency_key for arrival in arrivals})
    report.add("backlog: sent twice", f"{twice}", goal="0", met=not twice)
    report.add("CPU per delivered lead", _per_lead(cpu, backlog))


# --- make run --------------------------------------------------------------------------------------------------------


def _measure_start(report: Report) -> None:
    """Measure the time from `make run`, on a new embedded database, until a lead is delivered."""
    port, directory = free_port(), scratch_directory("run")
    # The time for an installation does not count, also when requirements.txt is newer than it.
    command = ["make", "--no-print-directory", "--assume-old=.venv/service", "run"]
    env = of_a_process(API_HOST="127.0.0.1", API_PORT=str(port), VAR_DIR=str(directory))
    process = Process(command, env=env, cwd=ROOT, log=directory / "run.log")
    began = time.monotonic()
    process.start()
    try:
        wait_until(lambda: _delivered(port), 120, f"a delivered lead, see {directory}")
        took = time.monotonic() - began
    finally:
        process.stop()
    report.add("make run to a delivered lead", f"{took:.1f} s", goal="≤ 12 s", met=took <= 12)


def _delivered(port: int) -> bool:
    """Post a lead, the same one again as a duplicate, and return whether it is delivered."""
    lead = {"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": True}}
    try:
        posted = requests.post(f"http://127.0.0.1:{port}/webhooks/leads", json=lead, timeout=5)
        return posted.status_code == 200 and posted.json()["status"] == "DELIVERED"
    except requests.RequestException:
        return False


if __name__ == "__main__":
    try:
        main()
    finally:
        processes.finish()
