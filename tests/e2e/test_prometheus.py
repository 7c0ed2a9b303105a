"""The metrics of a gateway with several processes, scraped by a real Prometheus."""

import json
import re
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.gateway import Gateway
from tests.environment import ROOT
from tests.hostile_customer import PHONE_PREFIX, HostileCustomer
from tests.make import payload
from tests.processes import wait_until
from tests.prometheus import Prometheus
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TOKEN = "the-readers-token"
SECRET = "the-senders-secret"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

#: Metrics that change with time alone.
CLOCKS = re.compile(r"lead_gateway_(oldest_.*_seconds|(heartbeat|monitoring)_timestamp_seconds)")


@pytest.fixture(scope="module")
def gateway(running_customer: HostileCustomer, postgres: PostgresServer, redis: RedisServer) -> Iterator[Gateway]:
    env = {"ENABLE_AUTH": "true", "SHARED_SECRET": SECRET, "STATS_TOKEN": TOKEN, "WEB_PROCESSES": "3"}
    servers = {"postgres": postgres, "redis": redis, "redis_database": 7}
    running = Gateway(customer_url=running_customer.url, MAX_RETRY_ATTEMPTS="2", **servers, **env)
    running.start(web=1, worker=2, beat=1)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def prometheus(gateway: Gateway) -> Iterator[Prometheus]:
    with Prometheus(f"127.0.0.1:{gateway.port}", token=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def traffic(gateway: Gateway, prometheus: Prometheus) -> None:
    """Send leads with every outcome, after a first scrape."""
    wait_until(lambda: prometheus.query("lead_gateway_leads_accepted_total"), 30, "the first scrape")
    delivered = [post(gateway, payload()) for _ in range(6)]
    rejected = post(gateway, payload(zipcode="10115"))
    given_up = post(gateway, payload(phone=f"{PHONE_PREFIX}503"))
    refused = post(gateway, payload(phone=f"{PHONE_PREFIX}422"))
    twice = payload()
    delivered += [post(gateway, twice)]
    post(gateway, twice)
    gateway.post(b"no JSON", X_Shared_Secret=SECRET)
    gateway.post(payload())
    gateway.wait_for_all("DELIVERED", delivered)
    gateway.wait_for("REJECTED", rejected)
    gateway.wait_for_all("PERMANENTLY_FAILED", [given_up, refused])


def post(gateway: Gateway, lead: dict[str, object]) -> int:
    return int(gateway.post(lead, X_Shared_Secret=SECRET).json()["lead_id"])


def scrape(gateway: Gateway) -> Samples:
    """Scrape the process that accepts a new connection."""
    answer = gateway.get("/metrics", Authorization=f"Bearer {TOKEN}", Connection="close")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[(f"lead_gateway_{name}", frozenset(labels.items()))]


def test_every_process_exports_the_same_correct_numbers(gateway: Gateway, traffic: None) -> None:
    text = gateway.get("/metrics", Authorization=f"Bearer {TOKEN}").text
    assert not [personal for personal in ("@example.com", "+49", "66123", "10115") if personal in text]

    scrapes = [
        {series: value for series, value in scrape(gateway).items() if not CLOCKS.fullmatch(series[0])}
        for _ in range(20)
    ]

    assert scrapes == [scrapes[0]] * 20
    found = scrapes[0]
    assert value(found, "leads_accepted_total") == 10
    assert value(found, "duplicates_total") == 1
    assert value(found, "leads_rejected_total", reason="ZIP_NOT_66XXX") == 1
    assert value(found, "leads_entered_total", status="DELIVERED") == 7
    assert value(found, "leads_entered_total", status="PERMANENTLY_FAILED") == 2
    assert value(found, "delivery_attempts_total", outcome="delivered", code="200") == 7
    assert value(found, "delivery_attempts_total", outcome="failed", code="503") == 2
    assert value(found, "delivery_attempts_total", outcome="refused", code="422") == 1
    assert value(found, "accepted_to_delivered_seconds_count") == 7
    assert value(found, "accepted_to_delivered_seconds_bucket", le="10.0") == 7
    assert value(found, "webhook_seconds_count", status="200") == 11  # the sum over all processes
    assert value(found, "webhook_seconds_count", status="400") == 1
    assert value(found, "webhook_seconds_count", status="401") == 1
    assert (value(found, "database_up"), value(found, "queue_up")) == (1, 1)
    assert value(found, "queue_depth", queue="queue:process_lead") == 0
    assert value(found, "queue_depth", queue="queue:process_lead_retry") == 0


def test_prometheus_accepts_every_series(gateway: Gateway, prometheus: Prometheus, traffic: None) -> None:
    wait_until(lambda: accepted(prometheus) == 10, 15, "a scrape after the traffic")

    exported = {name for name, _ in scrape(gateway)}
    accepted_names = set(prometheus.ask("label/__name__/values"))
    assert exported - accepted_names == set()
    [up] = prometheus.query("up")
    assert up["value"][1] == "1"


def accepted(prometheus: Prometheus) -> float:
    [series] = prometheus.query("lead_gateway_leads_accepted_total")
    return float(series["value"][1])


def test_the_rules_are_evaluated_and_fire(prometheus: Prometheus, traffic: None) -> None:
    """Only the permanently failed leads of the traffic fire; no other alert without a waiting time does."""

    def firing() -> set[str]:
        return {
            alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
        }

    wait_until(lambda: "LeadsGivenUp" in firing(), 20, "an alert")
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert firing() == {"LeadsGivenUp"}


def expressions() -> list[tuple[str, str]]:
    """Return the title and the query of every series of the dashboard."""
    dashboard = json.loads((ROOT / "config" / "grafana" / "lead-gateway.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def test_every_panel_of_the_dashboard_shows_something(gateway: Gateway, prometheus: Prometheus, traffic: None) -> None:
    worker_or_beat = "INSERT INTO heartbeat (name, kind, started_at, seen_at) VALUES ('{0}', '{0}', now(), now())"
    for kind in ("worker", "beat"):
        gateway.execute(worker_or_beat.format(kind))
    wait_until(lambda: prometheus.query("lead_gateway_heartbeat_timestamp_seconds"), 15, "a heartbeat")
    time.sleep(3)  # a few more scrapes

    empty = []
    for title, expression in expressions():
        if not prometheus.query(expression.replace("$__rate_interval", "2m")):
            empty.append((title, expression))
    assert empty == []
