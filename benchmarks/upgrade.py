"""`make bench-upgrade`: what senders notice of an upgrade, on private servers. The figures are this machine's."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter

from benchmarks.load import Load, steady_load
from tests import old_release, processes
from tests.e2e.gateway import Gateway, manage
from tests.environment import ROOT, of_a_process
from tests.hostile_customer import HostileCustomer
from tests.processes import process_table, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

_DATABASE = "old_release"

#: Seconds within which a sender has its answer, by the seed's promise.
_PROMISED = 0.5

#: Seconds that a sender rests after each answer.
_PAUSE = 0.05


def main() -> None:
    """Run the measurements and print a line for each figure."""
    arguments = argparse.ArgumentParser(prog="make bench-upgrade", description=__doc__)
    arguments.add_argument("--times", type=int, default=5, help="restarts of each kind")
    arguments.add_argument("--leads", type=int, default=100_000)
    arguments.add_argument("--senders", type=int, default=8)
    options = arguments.parse_args()
    _restart(senders=options.senders, times=options.times)
    _migration(leads=options.leads, senders=options.senders)


def _restart(*, senders: int, times: int) -> None:
    """Have a new version of the web server, and of the worker, take over so many times under load."""
    with PostgresServer(durable=True) as postgres, RedisServer() as redis, HostileCustomer() as customer:
        customer.set_mode("delay=200ms")
        env = {"WEB_PROCESSES": "2", "WEB_ANSWER_TIMEOUT": ""}
        gateway = Gateway(postgres=postgres, redis=redis, customer_url=customer.url, **env)
        with gateway:
            [first] = gateway.running("web")
            with steady_load(port=gateway.port, senders=senders, pause=_PAUSE) as load:
                time.sleep(10)
            _say_answers("no restart", load)
            for what, replace in (("web", _replace_web), ("worker", _replace_worker)):
                with steady_load(port=gateway.port, senders=senders, pause=_PAUSE) as load:
                    for _ in range(times):
                        time.sleep(1)
                        replace(gateway)
                    time.sleep(1)
                _say_answers(f"{times} {what} restarts", load)
            _say_deliveries(gateway, customer)
            first.kill()  # and who took over from it


def _replace_web(gateway: Gateway) -> None:
    """Start a new web server by a signal to the one that runs, and wait until that one has ended."""
    session = gateway.processes["web"][0].pid
    [old] = _web_servers(session)
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: old not in _web_servers(session), 60, "a new web server in the old one's place")


def _web_servers(session: int) -> set[int]:
    """Return the web servers of a session, which are whoever has children there."""
    members = {process.pid: process.parent for process in process_table() if process.session == session}
    return members.keys() & set(members.values())


def _replace_worker(gateway: Gateway) -> None:
    [old] = gateway.running("worker")
    gateway.spawn("worker")
    os.kill(old.pid, signal.SIGTERM)
    old.wait(60)


def _say_deliveries(gateway: Gateway, customer: HostileCustomer) -> None:
    """Wait for the rest of the leads."""
    leads = [lead["id"] for lead in gateway.leads()]
    gateway.wait_for_all("DELIVERED", leads, timeout=300)
    sent = Counter(request["idempotency_key"] for request in customer.requests)
    _say(
        "restarts, leads, lost, sent twice",
        f"{len(leads)}, {len(leads) - len(sent)}, {sum(n > 1 for n in sent.values())}",
    )


def _say_answers(when: str, load: Load) -> None:
    _say(f"{when}, answers by status, 0: none", f"{load.statuses}")
    late = sum(milliseconds > _PROMISED * 1000 for milliseconds in load.milliseconds)
    _say(f"{when}, late, p99, longest in ms", f"{late}, {load.percentile(0.99):.0f}, {load.percentile(1):.0f}")


def _migration(*, leads: int, senders: int) -> None:
    """Bring a database of the first tables up to date while the old version stores leads in it."""
    with PostgresServer(durable=True) as postgres:
        env = of_a_process(**postgres.env, DB_NAME=_DATABASE, VAR_DIR=str(scratch_directory("var")))
        postgres.create_database(_DATABASE)
        manage(env, "migrate", "--verbosity=0", *old_release.TABLES)
        url = postgres.url_of(_DATABASE)
        old_release.fill(url, leads=leads)
        _say("migration, leads there before", f"{leads}")
        with old_release.senders(url, count=senders) as storing:
            time.sleep(5)
        _say_waits("no migration", storing)
        with old_release.senders(url, count=senders) as storing:
            began = time.monotonic()
            times = _migrate(env)
            _say("migration, seconds", f"{time.monotonic() - began:.1f}")
        _say("migration, gave way", f"{times} times")
        _say_waits("migration", storing)


def _migrate(env: dict[str, str]) -> int:
    """Migrate, and return how often it gave way."""
    command = [sys.executable, "manage.py", "migrate"]
    done = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.count("trying again")


def _say_waits(when: str, storing: old_release.Storing) -> None:
    ordered = sorted(storing.seconds)
    for name, place in (("p50", len(ordered) // 2), ("p99", len(ordered) * 99 // 100), ("longest", -1)):
        _say(f"{when}, sender's wait, {name} in ms", f"{ordered[place] * 1000:.1f}")
    late = sum(seconds > _PROMISED for seconds in ordered)
    _say(f"{when}, leads, late, failed", f"{len(ordered)}, {late}, {storing.errors.total()}")


def _say(what: str, figure: str) -> None:
    print(f"{what:<48} {figure}", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        processes.finish()
