"""The gateway behind PgBouncer in transaction pooling: no statement may rely on the session of an earlier one."""

from collections.abc import Iterator

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import accepted, assert_sent_once, under_load
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.processes import wait_until
from tests.servers import PgBouncer, PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """Run a pooler with fewer connections than the gateway has, so that each transaction gets another one."""
    with PgBouncer(postgres, connections=3) as server:
        yield server


def test_leads_are_delivered_once_and_the_pages_are_shown(
    postgres: PostgresServer, pgbouncer: PgBouncer, redis: RedisServer, customer: HostileCustomer
) -> None:
    redis.flush()
    servers = {"postgres": postgres, "redis": redis}
    address = {"DB_PORT": pgbouncer.env["DB_PORT"], "WEB_PROCESSES": "2"}
    with Gateway(customer_url=customer.url, **servers, **address) as gateway:
        customer.set_mode("status=503&fail_first=1")
        retried = gateway.accept(payload())
        gateway.wait_for("DELIVERED", retried)
        customer.set_mode("")
        with under_load(gateway, senders=4, pause=0) as results:
            wait_until(lambda: len(results) >= 200, 60, "200 posts")
        lead_ids = accepted(results)
        gateway.wait_for_all("DELIVERED", lead_ids, timeout=60)

        assert {result.status for result in results} == {200}
        assert_sent_once(gateway, customer, lead_ids)
        assert gateway.get("/stats/leads/counts").json()
        gateway.manage("verify_audit_log")
        gateway.manage("doctor")
        assert gateway.logs("web").count('"level": "error"') == gateway.logs("worker").count('"level": "error"') == 0
