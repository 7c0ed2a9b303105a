"""One run: load, faults, the wait until every lead has come to its end, and the comparison."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.audit import Audit, Evidence, compare
from tests.chaos.load import Load
from tests.chaos.plan import EMBEDDED, ON_SERVERS, draw
from tests.chaos.targets import WORKERS, Outage, Supervisors, all_targets
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.servers import PostgresServer, RedisServer

#: What the customer does to one request in five, beside its outages. With the last two it has the lead all the same.
FAILURES = ("status=500", "status=503", "status=429&retry_after=1", "reset=1", "close=1", "hang=1")
FAILURES_AFTER_BOOKING = ("reset=after", "delay=1500ms")
FAIL_RATE = 0.2
#: Seconds that the customer takes for an answer: so there is always a delivery under way when something is killed.
ANSWERS_AFTER = 0.2

#: Short, so that a run need not wait for minutes; MAX_RETRY_ATTEMPTS, the breaker's threshold and what is empty are as
#: in production.
SETTINGS = {
    "CUSTOMER_API_TIMEOUT": "1s",
    "MAX_RETRY_ATTEMPTS": "5",
    "RETRY_BACKOFF_BASE": "500ms",
    "WORKER_POLL_INTERVAL": "500ms",
    "WORKER_CONCURRENCY": "8",
    "CIRCUIT_FAILURES": "10",
    "CIRCUIT_LEADS": "5",
    "CIRCUIT_BACKOFF_BASE": "500ms",
    "CIRCUIT_BACKOFF_MAX": "1s",
    "WEB_ANSWER_TIMEOUT": "",
    "REQUEUE_AFTER": "",
}

_UNDER_WAY = """
    SELECT count(*) AS n FROM inbound_lead
    WHERE status IN ('RECEIVED', 'READY') OR (status = 'FAILED' AND next_attempt_at IS NOT NULL)
"""


@dataclass(frozen=True)
class Options:
    """What to run.

    `every`: seconds between two faults, on average. `patience`: seconds that the last senders and the last leads have
    to come to their end. `embedded`: SQLite and no broker, instead of PostgreSQL and Redis.
    """

    seed: int
    seconds: float = 120
    per_minute: float = 600
    every: float = 4
    timeout: float = 120
    embedded: bool = False


@dataclass(frozen=True)
class Recovery:
    """How many seconds passed from a strike until the gateway was whole again.

    That is until the customer had the first lead that was posted after the strike and arrived after what was struck
    was back. Other strikes in this time count in.
    """

    outage: Outage
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came of a run. `ended_after`: seconds from the end of the load until the last lead had come to its end."""

    audit: Audit
    evidence: Evidence
    outages: Sequence[Outage]
    recoveries: Sequence[Recovery]
    ended_after: float
    logs: Path


def run(
    options: Options,
    *,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[Counter[str]], None] = lambda _: None,
) -> Result:
    """Run it on servers of its own.

    :param tell: is called with a line for everything that is struck or comes back.
    :param progress: is called several times a second with how many leads were posted and accepted.
    """
    customer = DemoCustomer(
        fail_rate=FAIL_RATE, failures=FAILURES + FAILURES_AFTER_BOOKING, delay=ANSWERS_AFTER, seed=options.seed
    )
    with customer, _servers(options) as servers:
        gateway = Gateway(customer_url=customer.url, **servers, **SETTINGS)
        gateway.start(worker=WORKERS)
        try:
            return _strike(gateway, customer, servers, options, tell, progress)
        finally:
            gateway.stop()


@contextmanager
def _servers(options: Options) -> Iterator[dict[str, PostgresServer | RedisServer]]:
    if options.embedded:
        yield {}
        return
    with PostgresServer(durable=True) as postgres, RedisServer(appendonly=True) as redis:
        yield {"postgres": postgres, "redis": redis}


def _strike(
    gateway: Gateway,
    customer: DemoCustomer,
    servers: dict[str, PostgresServer | RedisServer],
    options: Options,
    tell: Callable[[str], None],
    progress: Callable[[Counter[str]], None],
) -> Result:
    load = Load(gateway, seed=options.seed, per_minute=options.per_minute)
    names = EMBEDDED if options.embedded else ON_SERVERS
    plan = draw(options.seed, seconds=options.seconds, every=options.every, targets=names)
    supervisors = Supervisors(all_targets(gateway, customer, **servers), plan, tell=tell)
    with supervisors.at_work():
        with load.running(timeout=options.timeout):
            _wait(lambda: False, options.seconds, lambda: progress(load.counts()))
        began = time.monotonic()
        _wait(lambda: _all_ended(gateway), options.timeout, lambda: progress(load.counts()))
        ended_after = time.monotonic() - began
    evidence = _evidence(gateway, customer, load)
    audit = compare(evidence)
    audit.problems += _verify_trail(gateway)
    recoveries = list(_recoveries(evidence, supervisors.outages))
    return Result(audit, evidence, supervisors.outages, recoveries, ended_after, gateway.directory)


def _wait(is_over: Callable[[], bool], seconds: float, look: Callable[[], None]) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not is_over():
        look()
        time.sleep(min(0.25, max(0.0, ends - time.monotonic())))
    look()


def _all_ended(gateway: Gateway) -> bool:
    try:
        return gateway.rows(_UNDER_WAY)[0]["n"] == 0
    except psycopg.OperationalError:
        return False  # it is just being brought back


def _evidence(gateway: Gateway, customer: DemoCustomer, load: Load) -> Evidence:
    return Evidence(
        posted=load.posted,
        ledger=customer.requests,
        leads=gateway.leads(),
        attempts=gateway.rows("SELECT * FROM delivery_attempt ORDER BY lead_id, attempt_no"),
        events=gateway.rows("SELECT * FROM lead_event ORDER BY id"),
        max_attempts=int(SETTINGS["MAX_RETRY_ATTEMPTS"]),
    )


def _verify_trail(gateway: Gateway) -> list[str]:
    """Return what the gateway's own proof of its trail finds, which ends with 1 when there is anything."""
    try:
        gateway.manage("verify_audit_log")
    except AssertionError as error:
        return [str(error)]
    return []


def _recoveries(evidence: Evidence, outages: Sequence[Outage]) -> Iterator[Recovery]:
    """Yield each outage's recovery; none for an outage after which no lead was posted any more."""
    arrivals = list(evidence.arrivals())  # in the order of the ledger
    for outage in outages:
        whole = (at for at, posted in arrivals if at >= outage.ended and posted.began >= outage.began)
        if (first := next(whole, None)) is not None:
            yield Recovery(outage, first - outage.began)
