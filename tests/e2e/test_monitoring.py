"""The watch with real processes: whoever is killed, somebody who lives notices and tells it, once."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer
from tests.stats.monitoring.receivers import Hook, Mailbox, hook, mailbox

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


@pytest.fixture
def webhook() -> Iterator[Hook]:
    with hook() as found:
        yield found


@pytest.fixture
def gateway(postgres: PostgresServer, redis: RedisServer, box: Mailbox, webhook: Hook) -> Iterator[Gateway]:
    servers: dict[str, Any] = {"postgres": postgres, "redis": redis, "redis_database": 9}
    env = {
        "MONITORING_INTERVAL": "300ms",
        "ALERT_EMAIL": "ops@example.com",
        "EMAIL_URL": box.url,
        "ALERT_WEBHOOK_URL": webhook.url,
    }
    with DemoCustomer() as customer, Gateway(customer_url=customer.url, **servers, **env) as running:
        yield running


def told(webhook: Hook) -> list[tuple[str, str]]:
    return [(each["kind"], each["status"]) for post in webhook.posts for each in post["incidents"]]


def is_unrestricted(gateway: Gateway) -> bool:
    return not gateway.rows("SELECT id FROM incident WHERE closed_at IS NULL") and not gateway.rows(
        "SELECT id FROM alert WHERE sent_at IS NULL"
    )


def gauge(gateway: Gateway, kind: str) -> bool:
    return f'lead_gateway_incident_open{{kind="{kind}"}} 1.0' in requests.get(f"{gateway.url}/metrics", timeout=10).text


def let_in(gateway: Gateway, postgres: PostgresServer, *, anybody: bool) -> None:
    """Have the database of the gateway alone refuse whoever comes, and throw out who is in; or let them in again."""
    name = gateway.env["DB_NAME"]
    postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {anybody}')
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def test_whoever_lives_notices_who_does_not(
    gateway: Gateway, postgres: PostgresServer, box: Mailbox, webhook: Hook
) -> None:
    wait_until(lambda: len(gateway.rows("SELECT name FROM heartbeat")) == 2, 20, "worker and beat to be seen")
    wait_until(lambda: is_unrestricted(gateway), 20, "what was found while they started to be over")
    webhook.posts.clear()
    box.mails.clear()

    gateway.terminate("worker")
    wait_until(lambda: ("no_worker", "open") in told(webhook), 30, "beat to notice that there is no worker")
    assert gauge(gateway, "no_worker")

    gateway.terminate("beat")
    wait_until(lambda: ("no_beat", "open") in told(webhook), 30, "the web server to notice that there is no beat")

    for name in ("worker", "beat"):
        gateway.spawn(name)
    over = {("no_worker", "over"), ("no_beat", "over")}
    wait_until(lambda: over <= set(told(webhook)), 40, "both to be over")
    wait_until(lambda: len(box.mails) >= len(webhook.posts), 10, "the last mail")

    assert sorted(told(webhook)) == sorted([("no_worker", "open"), ("no_beat", "open"), *over])
    assert not gauge(gateway, "no_worker")
    assert "[Lead Gateway] No worker is running" in [mail["Subject"] for mail in box.mails]
    assert '"incident_opened"' in gateway.logs("beat") + gateway.logs("worker") + gateway.logs("web")
    assert gateway.manage("pipeline_status").strip().endswith("0 FAIL")

    webhook.posts.clear()
    let_in(gateway, postgres, anybody=False)
    wait_until(lambda: told(webhook), 40, "beat to notice that the database is away")
    let_in(gateway, postgres, anybody=True)
    wait_until(lambda: ("database_unavailable", "over") in told(webhook), 40, "that to be over")
    about_it = [each for each in told(webhook) if each[0] == "database_unavailable"]
    assert about_it == [("database_unavailable", "open"), ("database_unavailable", "over")]
    [outage] = gateway.rows("SELECT * FROM incident WHERE kind = 'database_unavailable'")
    assert outage["opened_at"] < outage["closed_at"]
