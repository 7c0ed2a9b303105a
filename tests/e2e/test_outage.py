"""An outage of the customer: no lead is given up, delivery resumes automatically, and limits hold afterwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import accepted, assert_sent_once, post_many
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

#: Five attempts within two seconds, so that a lead which the open circuit does not hold back is given up soon.
_QUICK = {"RETRY_BACKOFF_BASE": "100ms", "CUSTOMER_API_TIMEOUT": "500ms", "WORKER_CONCURRENCY": "5"}

_FLOOD = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
    INSERT INTO inbound_lead (raw_payload, status, customer_payload)
    SELECT '{{}}', 'FAILED', '{{"phone": "+49123456789", "product": {{"name": "x"}}, "attributes": []}}' FROM n
"""
_FAILED_ONCE = """
    INSERT INTO delivery_attempt (lead_id, attempt_no, response_status, finished_at)
    SELECT id, 1, 503, CURRENT_TIMESTAMP FROM inbound_lead WHERE status = 'FAILED'
"""

Start = Callable[..., Gateway]


@pytest.fixture
def customer() -> Iterator[HostileCustomer]:
    """Run a customer for this test alone, with an empty ledger."""
    with HostileCustomer() as customer:
        yield customer


@pytest.fixture(params=["PostgreSQL and Redis", pytest.param("embedded", marks=pytest.mark.embedded)])
def start(request: pytest.FixtureRequest, customer: HostileCustomer) -> Iterator[Start]:
    """Return a function that starts a gateway with settings, on either database."""
    servers: dict[str, Any] = {}
    if request.param != "embedded":
        request.getfixturevalue("redis").flush()
        names = ("postgres", "redis")
        servers = {name: request.getfixturevalue(name) for name in names} | {"redis_database": 2}
    with ExitStack() as running:

        def started(*, worker: int = 1, **env: str) -> Gateway:
            gateway = Gateway(customer_url=customer.url, **servers, **_QUICK | env)
            running.callback(gateway.stop)
            return gateway.start(worker=worker)

        yield started


def delivery_events(gateway: Gateway) -> list[str]:
    return [row["kind"] for row in gateway.rows("SELECT kind FROM lead_event WHERE lead_id IS NULL ORDER BY id")]


def is_down(gateway: Gateway) -> bool:
    return bool(gateway.rows("SELECT id FROM delivery_control WHERE circuit_opened_at IS NOT NULL"))


def statuses(gateway: Gateway) -> set[str]:
    return {row["status"] for row in gateway.rows("SELECT DISTINCT status FROM inbound_lead")}


def times(customer: HostileCustomer) -> list[float]:
    return sorted(datetime.fromisoformat(request["time"]).timestamp() for request in customer.requests)


def most_within(moments: list[float], seconds: float) -> int:
    """Return the maximum number of moments within any span of `seconds`."""
    return max(sum(start <= moment < start + seconds for moment in moments) for start in moments)


def test_all_leads_are_delivered_after_an_outage(
    request: pytest.FixtureRequest, start: Start, customer: HostileCustomer
) -> None:
    outage = "status=503" if "embedded" in request.node.name else "hang=1"
    running = start(worker=2)
    customer.set_mode(outage)
    earlier = accepted(post_many(running, 15))
    wait_until(lambda: is_down(running), 20, "the circuit to open")
    later = accepted(post_many(running, 30))
    wait_until(lambda: statuses(running) <= {"READY", "FAILED"}, 20, "every lead to be checked")
    tried = len(customer.requests)
    probes = running.rows("SELECT probes FROM delivery_control")[0]["probes"]
    wait_until(lambda: running.rows("SELECT probes FROM delivery_control")[0]["probes"] >= probes + 4, 30, "probes")

    assert len(customer.requests) - tried <= 6, "leads other than the probes were sent"
    assert statuses(running) <= {"READY", "FAILED"}, "a lead was given up"

    customer.set_mode("")
    running.wait_for_all("DELIVERED", earlier + later, timeout=30)
    assert delivery_events(running) == ["circuit_opened", "circuit_closed"]
    assert '"circuit_opened"' in running.logs("worker")
    assert '"circuit_closed"' in running.logs("worker")


def test_a_lost_probe_does_not_block_delivery(
    request: pytest.FixtureRequest, start: Start, customer: HostileCustomer
) -> None:
    """Freeze the worker that probes; on SQLite kill it, as a frozen process can hold the lock of the database."""
    running = start(worker=1)
    customer.set_mode("status=503")
    leads = accepted(post_many(running, 20))
    wait_until(lambda: is_down(running), 20, "the circuit to open")
    customer.set_mode("hang=1")
    wait_until(lambda: customer.requests[-1]["outcome"] == "hang", 20, "a probe", pause=0.01)
    [prober] = running.running("worker")
    prober.kill() if "embedded" in request.node.name else prober.freeze()
    running.spawn("worker")
    customer.set_mode("")

    wait_until(lambda: not is_down(running), 90, "a successful probe of the other worker")
    prober.kill()
    running.wait_for_all("DELIVERED", leads, timeout=60)  # a lease and a lost message


def test_a_command_resumes_paused_delivery(start: Start, customer: HostileCustomer) -> None:
    running = start()
    running.manage("pause_delivery", "--reason", "their maintenance")
    leads = accepted(post_many(running, 20))
    running.wait_for_all("READY", leads)
    assert customer.requests == []
    assert "their maintenance" in running.manage("lead_history", str(leads[0]))

    assert "20 leads" in running.manage("resume_delivery")

    running.wait_for_all("DELIVERED", leads)
    assert delivery_events(running) == ["delivery_paused", "delivery_resumed"]


def test_a_backlog_is_sent_within_the_rate_limit(start: Start, customer: HostileCustomer) -> None:
    running = start(CUSTOMER_API_RATE_LIMIT="10/s", worker=2)
    running.manage("pause_delivery", "--reason", "to have a backlog")
    leads = accepted(post_many(running, 30))
    running.wait_for_all("READY", leads)
    running.manage("resume_delivery")
    running.wait_for_all("DELIVERED", leads, timeout=60)

    assert most_within(times(customer), 1) <= 12  # 10, plus requests that the network delayed
    assert_sent_once(running, customer, leads)


def test_concurrent_requests_stay_within_the_limit(start: Start, customer: HostileCustomer) -> None:
    customer.set_mode("delay=200ms")
    # The sweep alone would take a hundred seconds. A finished delivery must start the next one.
    running = start(CUSTOMER_API_MAX_CONCURRENCY="3", WORKER_CONCURRENCY="8", WORKER_POLL_INTERVAL="5s", worker=2)
    leads = accepted(post_many(running, 60))
    running.wait_for_all("DELIVERED", leads, timeout=40)

    assert most_within(times(customer), 0.19) <= 3
    assert_sent_once(running, customer, leads)


@pytest.mark.alone
def test_a_new_lead_does_not_wait_for_a_thousand_retries(
    request: pytest.FixtureRequest, start: Start, customer: HostileCustomer
) -> None:
    customer.set_mode("delay=50ms")
    running = start(CUSTOMER_API_RATE_LIMIT="" if "embedded" in request.node.name else "40/s", worker=0)
    running.execute(_FLOOD.format(count=1000))
    running.execute(_FAILED_ONCE)
    running.spawn("worker")
    wait_until(lambda: len(customer.requests) > 20, 60, "the retries")
    lead = running.accept(payload())
    running.wait_for("DELIVERED", lead, timeout=10)

    assert len(customer.requests) < 700, "the retries were over before: the test proves nothing"
    [accepted_at, delivered_at] = [running.lead(lead)[name] for name in ("received_at", "delivered_at")]
    assert (delivered_at - accepted_at).total_seconds() < 3
