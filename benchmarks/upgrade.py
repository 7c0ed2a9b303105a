"""`make bench-upgrade`: measure what senders notice when a new version takes over, on private servers.

The numbers are those of this machine, which runs the senders, the servers and the customer on the same cores.
"""

import argparse
import os
import signal
import time
from collections import Counter

from benchmarks.load import Load, steady_load
from tests import processes
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.processes import process_table, wait_until
from tests.servers import PostgresServer, RedisServer

#: Maximum number of seconds until a sender has a response, by the specification.
_MAX_RESPONSE_TIME = 0.5

#: Seconds between two requests of the same sender.
_EVERY = 0.05


def main() -> None:
    """Restart the web server and the worker under load, and print a line for each result."""
    arguments = argparse.ArgumentParser(prog="make bench-upgrade", description=__doc__)
    arguments.add_argument("--times", type=int, default=5, help="restarts of each kind")
    arguments.add_argument("--senders", type=int, default=8)
    options = arguments.parse_args()
    with PostgresServer(durable=True) as postgres, RedisServer() as redis, HostileCustomer() as customer:
        customer.set_mode("delay=200ms")
        env = {"WEB_PROCESSES": "2", "WEB_ANSWER_TIMEOUT": ""}
        with Gateway(postgres=postgres, redis=redis, customer_url=customer.url, **env) as gateway:
            [first] = gateway.running("web")
            _measure(gateway, senders=options.senders, times=options.times)
            _print_deliveries(gateway, customer)
            first.kill()  # with the web server that has taken over, which belongs to the same session


def _measure(gateway: Gateway, *, senders: int, times: int) -> None:
    with steady_load(port=gateway.port, senders=senders, every=_EVERY) as load:
        time.sleep(10)
    _print_responses("no restart", load)
    for name, replace in (("web", _replace_web), ("worker", _replace_worker)):
        with steady_load(port=gateway.port, senders=senders, every=_EVERY) as load:
            for _ in range(times):
                time.sleep(1)
                replace(gateway)
            time.sleep(1)
        _print_responses(f"{times} {name} restarts", load)


def _replace_web(gateway: Gateway) -> None:
    """Send SIGUSR2 to the web server, which starts a new one, and wait until the old one has ended."""
    session = gateway.processes["web"][0].pid
    [old] = _web_servers(session)
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: old not in _web_servers(session), 60, "the new web server to replace the old one")


def _web_servers(session: int) -> set[int]:
    """Return the web servers of a session: the processes that have children there."""
    members = {process.pid: process.parent for process in process_table() if process.session == session}
    return members.keys() & set(members.values())


def _replace_worker(gateway: Gateway) -> None:
    [old] = gateway.running("worker")
    gateway.spawn("worker")
    os.kill(old.pid, signal.SIGTERM)
    old.wait(60)


def _print_responses(title: str, load: Load) -> None:
    _print(f"{title}, responses by status (0: none)", f"{load.statuses}")
    late = sum(milliseconds > _MAX_RESPONSE_TIME * 1000 for milliseconds in load.milliseconds)
    _print(f"{title}, late, p99 and max in ms", f"{late}, {load.percentile(0.99):.0f}, {load.percentile(1):.0f}")


def _print_deliveries(gateway: Gateway, customer: HostileCustomer) -> None:
    """Wait until every lead is delivered, and print how many were lost or sent twice."""
    leads = [lead["id"] for lead in gateway.leads()]
    gateway.wait_for_all("DELIVERED", leads, timeout=300)
    sent = Counter(request["idempotency_key"] for request in customer.requests)
    twice = sum(number > 1 for number in sent.values())
    _print("restarts, leads, lost, sent twice", f"{len(leads)}, {len(leads) - len(sent)}, {twice}")


def _print(label: str, value: str) -> None:
    print(f"{label:<48} {value}", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        processes.finish()
