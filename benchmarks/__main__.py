"""`make bench`: measure the gateway on private servers, and compare it with its goals.

The figures are those of this machine, which runs senders, servers and the customer on the same cores. Compare ratios:
pgbench, which stores bare rows, takes turns with the gateway.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import requests

from benchmarks.load import percentile, steady_load
from benchmarks.rates import Posts, bare_insert, pgbench, wrk
from benchmarks.report import Report
from benchmarks.servers import Servers, servers
from benchmarks.usage import cpu_seconds, memory_mb
from tests import processes
from tests.e2e.gateway import Gateway
from tests.environment import ROOT, of_a_process
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import ServerMissing, postgres_binary, program, redis_binary

#: Minimum ratio of accepted leads to pgbench's rows, by the number of connections.
SHARES = {16: 0.15, 64: 0.21}

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


@dataclass(frozen=True)
class Turn:
    """A turn of pgbench and one of wrk of the same length, with the CPU seconds of each by process.

    :param rows: Rows per second of pgbench.
    """

    rows: float
    rows_cpu: Mapping[str, float]
    posts: Posts
    posts_cpu: Mapping[str, float]

    @property
    def share(self) -> float:
        """Return the ratio of accepted leads per second to rows per second."""
        return self.posts.per_second / self.rows

    @property
    def cpu_share(self) -> float:
        """Return the ratio of accepted leads per CPU second to rows per CPU second. Other programs matter less here."""
        return self.share * sum(self.rows_cpu.values()) / sum(self.posts_cpu.values())


def _measure_webhook(ours: Servers, plan: Plan, report: Report) -> None:
    """Measure the web server and pgbench in turns. No worker runs, so the leads stay in the queue."""
    script, turns = scratch_directory("pgbench") / "insert.sql", list[Turn]()
    with ours.gateway(worker=0) as gateway:
        wrk(gateway.url, connections=16, seconds=1)  # warm up
        database = ours.postgres.url_of(gateway.env["DB_NAME"])
        bare_insert(database, script)
        stored = _count(gateway)
        for connections in SHARES:
            for _ in range(plan.turns):
                with cpu_seconds(ours.used_by(gateway)) as rows_cpu:
                    rows = pgbench(database, script, connections=connections, seconds=plan.turn)
                with cpu_seconds(ours.used_by(gateway, "web")) as posts_cpu:
                    posts = wrk(gateway.url, connections=connections, seconds=plan.turn)
                turns.append(Turn(rows, rows_cpu, posts, posts_cpu))
            _report_rates(report, connections, turns[-plan.turns :])
        wait_until(lambda: requests.get(f"{gateway.url}/health", timeout=5).ok, 10, "the last requests")
        accepted, failed = sum(turn.posts.accepted for turn in turns), sum(turn.posts.failed for turn in turns)
        cut_off = plan.turns * sum(SHARES)
        _compare_stored(report, accepted, _count(gateway) - stored, without_200=cut_off + failed)
    cpu = {name: sum(turn.posts_cpu[name] for turn in turns) for name in turns[0].posts_cpu}
    report.add("CPU per accepted lead", _per_lead(cpu, accepted))


def _report_rates(report: Report, connections: int, turns: Sequence[Turn]) -> None:
    title, goal, limit = f"{connections} connections", SHARES[connections], "≤ 25 ms" if connections == 16 else ""
    p50, p99 = median(turn.posts.p50 for turn in turns), median(turn.posts.p99 for turn in turns)
    share, failed = median(turn.share for turn in turns), sum(turn.posts.failed for turn in turns)
    report.add(f"{title}: pgbench, bare INSERTs/s", f"{median(turn.rows for turn in turns):,.0f}")
    report.add(f"{title}: accepted leads/s", f"{median(turn.posts.per_second for turn in turns):,.0f}")
    report.add(f"{title}: share of pgbench", f"{share:.3f}", goal=f"≥ {goal}", met=share >= goal)
    report.add(f"{title}: share of pgbench by CPU time", f"{median(turn.cpu_share for turn in turns):.3f}")
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
    """Return the CPU milliseconds per lead: all without the client, and each."""
    each = {name: seconds / leads * 1000 for name, seconds in cpu.items()}
    parts = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in each.items())
    return f"{sum(each.values()) - each['client']:.2f} ms: {parts}"


# --- delivery, memory, idle ------------------------------------------------------------------------------------------


def _measure_delivery(ours: Servers, plan: Plan, report: Report) -> None:
    """Measure web, worker and beat at rest, with 50 leads a second, and with a backlog."""
    with ours.gateway(redis_database=1) as gateway:
        time.sleep(plan.rest)  # the processes finish their start
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
    wait_until(lambda: load.accepted.keys() <= ours.customer.lead_ids(), 60, "the leads at the customer")
    waits = ours.customer.waits(load.accepted)
    report.add(
        "accepted to arrived at 50/s: p50, p99", f"{percentile(waits, 0.5):.0f} ms, {percentile(waits, 0.99):.0f} ms"
    )


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
