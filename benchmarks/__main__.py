"""`make bench`: measure webhook requests and deliveries per second, on private servers.

The numbers are those of this machine, which runs the senders, PostgreSQL, Redis and the customer on the same cores.
"""

import argparse
import time

from benchmarks.load import post_for
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.servers import PostgresServer, RedisServer


def main() -> None:
    """Run the measurements and print a line for each result."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--senders", type=int, default=16)
    options = arguments.parse_args()
    with PostgresServer(durable=True) as postgres, RedisServer() as redis, HostileCustomer() as customer:
        _webhook(postgres, redis, customer, options)
        _delivery(postgres, redis, customer, options)


def _webhook(
    postgres: PostgresServer, redis: RedisServer, customer: HostileCustomer, options: argparse.Namespace
) -> None:
    """Measure the web server alone. No worker runs, so the leads stay in the queue."""
    servers = {"postgres": postgres, "redis": redis, "redis_database": 1}
    gateway = Gateway(customer_url=customer.url, WEB_PROCESSES="2", WEB_ANSWER_TIMEOUT="", **servers)
    gateway.start(web=1, worker=0, beat=0)
    try:
        post_for(2, port=gateway.port, senders=options.senders)  # warm up
        load = post_for(options.seconds, port=gateway.port, senders=options.senders)
        _print("webhook, responses per second", f"{load.per_second:.0f}")
        for share in (0.5, 0.95, 0.99, 1):
            _print(f"webhook, p{share * 100:g} in ms", f"{load.percentile(share):.1f}")
        _print("webhook, responses by status", str(load.statuses))
    finally:
        gateway.stop()


def _delivery(
    postgres: PostgresServer, redis: RedisServer, customer: HostileCustomer, options: argparse.Namespace
) -> None:
    """Measure a worker alone, on a queue that was filled before the worker started."""
    gateway = Gateway(postgres=postgres, redis=redis, redis_database=2, customer_url=customer.url)
    gateway.start(web=1, worker=0, beat=0)
    try:
        leads = len(post_for(options.seconds / 2, port=gateway.port, senders=options.senders).milliseconds)
        gateway.terminate("web")
        gateway.spawn("worker")
        began, before = time.monotonic(), _delivered(gateway)
        while time.monotonic() - began < options.seconds and _delivered(gateway) < leads:
            time.sleep(0.2)
        took = time.monotonic() - began
        _print("worker, deliveries per second", f"{(_delivered(gateway) - before) / took:.0f}")
    finally:
        gateway.stop()


def _delivered(gateway: Gateway) -> int:
    return int(gateway.rows("SELECT count(*) AS n FROM inbound_lead WHERE status = 'DELIVERED'")[0]["n"])


def _print(label: str, value: str) -> None:
    print(f"{label:<32} {value}", flush=True)


if __name__ == "__main__":
    main()
