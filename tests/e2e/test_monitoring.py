"""Monitoring with real processes: the remaining ones alert each stopped one, once."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.e2e.gateway import Gateway
from tests.hostile_customer import HostileCustomer
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
    with HostileCustomer() as customer, Gateway(customer_url=customer.url, **servers, **env) as running:
        yield running


def alerts(webhook: Hook) -> list[tuple[str, str]]:
    return [(each["kind"], each["status"]) for post in webhook.posts for each in post["incidents"]]


def has_no_incident(gateway: Gateway) -> bool:
    return not gateway.rows("SELECT id FROM incident WHERE closed_at IS NULL") and not gateway.rows(
        "SELECT id FROM alert WHERE sent_at IS NULL"
    )


def is_exported(gateway: Gateway, kind: str) -> bool:
    return f'lead_gateway_incident_open{{kind="{kind}"}} 1.0' in requests.get(f"{gateway.url}/metrics", timeout=10).text


def allow_connections(gateway: Gateway, postgres: PostgresServer, *, allowed: bool) -> None:
    """Allow or refuse connections to the database of the gateway, and close all existing ones."""
    name = gateway.env["DB_NAME"]
    postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def test_the_remaining_processes_alert_a_stopped_one(
    gateway: Gateway, postgres: PostgresServer, box: Mailbox, webhook: Hook
) -> None:
    wait_until(lambda: len(gateway.rows("SELECT name FROM heartbeat")) == 2, 20, "heartbeats of worker and beat")
    wait_until(lambda: has_no_incident(gateway), 20, "the end of incidents from the start")
    webhook.posts.clear()
    box.mails.clear()

    gateway.terminate("worker")
    wait_until(lambda: ("no_worker", "open") in alerts(webhook), 30, "the alert of beat")
    assert is_exported(gateway, "no_worker")

    gateway.terminate("beat")
    wait_until(lambda: ("no_beat", "open") in alerts(webhook), 30, "the alert of the web process")

    for name in ("worker", "beat"):
        gateway.spawn(name)
    over = {("no_worker", "over"), ("no_beat", "over")}
    wait_until(lambda: over <= set(alerts(webhook)), 40, "the end of both incidents")
    wait_until(lambda: len(box.mails) >= len(webhook.posts), 10, "the last mail")

    assert sorted(alerts(webhook)) == sorted([("no_worker", "open"), ("no_beat", "open"), *over])
    assert not is_exported(gateway, "no_worker")
    assert "[Lead Gateway] No worker is running" in [mail["Subject"] for mail in box.mails]
    assert '"incident_opened"' in gateway.logs("beat") + gateway.logs("worker") + gateway.logs("web")
    assert gateway.manage("pipeline_status").strip().endswith(" 0 failures")

    webhook.posts.clear()
    allow_connections(gateway, postgres, allowed=False)
    wait_until(lambda: alerts(webhook), 40, "the alert of beat for the database")
    allow_connections(gateway, postgres, allowed=True)
    wait_until(lambda: ("database_unavailable", "over") in alerts(webhook), 40, "the end of the outage")
    of_database = [each for each in alerts(webhook) if each[0] == "database_unavailable"]
    assert of_database == [("database_unavailable", "open"), ("database_unavailable", "over")]
    [outage] = gateway.rows("SELECT * FROM incident WHERE kind = 'database_unavailable'")
    assert outage["opened_at"] < outage["closed_at"]
