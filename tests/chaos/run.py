"""Run load and faults, wait until every lead is finished, and audit the result."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.audit import Audit, Evidence, compare
from tests.chaos.load import Load
from tests.chaos.plan import EMBEDDED, ON_SERVERS, draw
from tests.chaos.targets import WORKERS, Outage, Supervisors, all_targets
from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

#: Random failures of the customer, in addition to outages. With those in the second list it has booked the lead.
FAILURES = ("status=500", "status=503", "status=429&retry_after=1", "reset=1", "close=1", "hang=1")
FAILURES_AFTER_BOOKING = ("reset=after", "delay=1500ms")
FAIL_RATE = 0.2
#: Seconds until the customer responds, so that deliveries are running when a process is killed.
RESPONSE_DELAY = 0.2

#: Short intervals, so that a run does not take minutes. MAX_RETRY_ATTEMPTS, the threshold of the circuit breaker and
#: empty values are as in production.
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

_UNFINISHED = """
    SELECT count(*) AS n FROM inbound_lead
    WHERE status IN ('RECEIVED', 'READY') OR (status = 'FAILED' AND next_attempt_at IS NOT NULL)
"""


@dataclass(frozen=True)
class Options:
    """The options of a run.

    :param every: Average number of seconds between two faults.
    :param timeout: Seconds to wait for the last senders and for the last leads.
    :param embedded: Use SQLite and no broker, instead of PostgreSQL and Redis.
    """

    seed: int
    seconds: float = 120
    per_minute: float = 600
    every: float = 4
    timeout: float = 120
    embedded: bool = False


@dataclass(frozen=True)
class Recovery:
    """Seconds from a fault until delivery works again.

    Delivery works when a lead posted after the fault reaches the customer after the target is restored. Other faults
    in this time are included.
    """

    outage: Outage
    seconds: float


@dataclass(frozen=True)
class Result:
    """The result of a run.

    :param finished_after: Seconds from the end of the load until the last lead was finished.
    """

    audit: Audit
    evidence: Evidence
    outages: Sequence[Outage]
    recoveries: Sequence[Recovery]
    finished_after: float
    logs: Path


def run(options: Options, *, report: Callable[[str], None]) -> Result:
    """Run it on servers of its own.

    :param report: Called with a line for every fault and every restored target.
    """
    customer = HostileCustomer(
        fail_rate=FAIL_RATE, failures=FAILURES + FAILURES_AFTER_BOOKING, delay=RESPONSE_DELAY, seed=options.seed
    )
    with customer, _servers(options) as servers:
        gateway = Gateway(customer_url=customer.url, **servers, **SETTINGS)
        gateway.start(worker=WORKERS)
        try:
            return _run(gateway, customer, servers, options, report)
        finally:
            gateway.stop()


@contextmanager
def _servers(options: Options) -> Iterator[dict[str, PostgresServer | RedisServer]]:
    if options.embedded:
        yield {}
        return
    with PostgresServer(durable=True) as postgres, RedisServer(appendonly=True) as redis:
        yield {"postgres": postgres, "redis": redis}


def _run(
    gateway: Gateway,
    customer: HostileCustomer,
    servers: dict[str, PostgresServer | RedisServer],
    options: Options,
    report: Callable[[str], None],
) -> Result:
    load = Load(gateway, seed=options.seed, per_minute=options.per_minute)
    names = EMBEDDED if options.embedded else ON_SERVERS
    plan = draw(options.seed, seconds=options.seconds, every=options.every, targets=names)
    supervisors = Supervisors(all_targets(gateway, customer, **servers), plan, report=report)
    with supervisors.running():
        with load.running(timeout=options.timeout):
            time.sleep(options.seconds)
        began = time.monotonic()
        with suppress(TimeoutError):  # the audit reports the leads that are not finished
            wait_until(lambda: _all_finished(gateway), options.timeout, "the last lead", pause=0.25)
        finished_after = time.monotonic() - began
    evidence = _evidence(gateway, customer, load)
    audit = compare(evidence)
    audit.problems += _verify_audit_log(gateway)
    recoveries = list(_recoveries(evidence, supervisors.outages))
    return Result(audit, evidence, supervisors.outages, recoveries, finished_after, gateway.directory)


def _all_finished(gateway: Gateway) -> bool:
    try:
        return gateway.rows(_UNFINISHED)[0]["n"] == 0
    except psycopg.OperationalError:
        return False  # the database is being restored


def _evidence(gateway: Gateway, customer: HostileCustomer, load: Load) -> Evidence:
    return Evidence(
        posted=load.posted,
        ledger=customer.requests,
        leads=gateway.leads(),
        attempts=gateway.rows("SELECT * FROM delivery_attempt ORDER BY lead_id, attempt_no"),
        events=gateway.rows("SELECT * FROM lead_event ORDER BY id"),
        max_attempts=int(SETTINGS["MAX_RETRY_ATTEMPTS"]),
    )


def _verify_audit_log(gateway: Gateway) -> list[str]:
    """Return the problems that `verify_audit_log` finds."""
    try:
        gateway.manage("verify_audit_log")
    except AssertionError as error:
        return [str(error)]
    return []


def _recoveries(evidence: Evidence, outages: Sequence[Outage]) -> Iterator[Recovery]:
    """Yield the recovery of each outage after which another lead was posted."""
    arrivals = list(evidence.arrivals())  # in the order of the ledger
    for outage in outages:
        delivered = (at for at, posted in arrivals if at >= outage.ended and posted.began >= outage.began)
        if (first := next(delivered, None)) is not None:
            yield Recovery(outage, first - outage.began)
