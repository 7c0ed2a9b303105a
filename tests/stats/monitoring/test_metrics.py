"""The metrics from the database. tests/e2e/test_prometheus.py tests the whole with a real Prometheus."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from delivery.client import CustomerResponse, DeliveryError
from delivery.control import circuit, pause
from delivery.models import DeliveryControl
from leads.models import LeadStatus
from stats.models import Heartbeat, ProcessKind
from stats.tasks import update_counters
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_few_event_ids")]


def scrape(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    return {
        (sample.name.removeprefix("lead_gateway_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def ago(**span):
    return timezone.now() - timedelta(**span)


def test_an_empty_gateway_has_every_series(client):
    seen = ago(seconds=7)
    Heartbeat.objects.create(name="worker@host", kind=ProcessKind.WORKER, started_at=seen, seen_at=seen)

    found = scrape(client)

    for status in LeadStatus.values:
        assert found["leads", status] == 0
    for series in ("leads_accepted_total", "duplicates_total", "oldest_undelivered_seconds", "oldest_due_seconds"):
        assert found[series,] == 0
    assert found["leads_rejected_total", "NOT_HOMEOWNER"] == 0
    assert ("webhook_seconds_count", "503") in found  # of the whole process, so not 0 in a test run
    assert found["heartbeat_timestamp_seconds", "worker", "worker@host"] == pytest.approx(seen.timestamp())
    assert {name for name, *_ in found} >= {"delivery_attempts_total", "accepted_to_delivered_seconds_bucket"}


def test_leads_are_counted_by_status(client):
    for status in LeadStatus.values:
        make.lead(status=status)
    update_counters()
    make.lead()  # open leads are counted on every scrape

    found = scrape(client)

    assert [found["leads", status] for status in LeadStatus.values] == [2, 1, 1, 1, 1, 1]


def test_the_age_of_the_oldest_undelivered_lead(client):
    make.lead(received_at=ago(days=2), status=LeadStatus.DELIVERED)
    make.lead(received_at=ago(days=1), status=LeadStatus.FAILED, next_attempt_at=None)
    make.lead(received_at=ago(hours=1), status=LeadStatus.FAILED, next_attempt_at=ago(minutes=-1))
    make.lead(received_at=ago(minutes=5), next_attempt_at=ago(minutes=5))
    make.lead(received_at=ago(minutes=9), next_attempt_at=ago(minutes=9), claimed_until=ago(minutes=-1))

    found = scrape(client)

    assert found["oldest_undelivered_seconds",] == pytest.approx(3600, abs=5)
    assert found["oldest_due_seconds",] == pytest.approx(300, abs=5)
    assert found["leads_due",] == 1
    assert found["leads_needing_attention",] == 1


def test_an_open_circuit_and_a_pause_have_their_start(client):
    at = ago(minutes=3)
    found = scrape(client)
    assert found["circuit_open_since_timestamp_seconds",] == found["delivery_paused_since_timestamp_seconds",] == 0
    assert found["circuit_openings_total",] == 0

    down = CustomerResponse(503, "", DeliveryError("http_status", {"status": 503}), None, 1)
    policy = circuit.CircuitPolicy(failures=2, leads=2)
    circuit.record_responses([(1, down), (2, down)], restrictions_exist=False, policy=policy, now=at)
    pause.pause_delivery(actor="alice", reason="maintenance", now=at)

    found = scrape(client)
    assert DeliveryControl.objects.get().is_blocked
    assert found["circuit_open_since_timestamp_seconds",] == pytest.approx(at.timestamp())
    assert found["delivery_paused_since_timestamp_seconds",] == pytest.approx(at.timestamp())
    assert found["circuit_openings_total",] == 1


def test_only_responses_of_the_webhook_are_counted(web, client):
    before = scrape(client)

    web.post(b"no JSON")
    web.post(make.payload(), "/webhooks/leads/")
    web.ask("/stats/leads/counts")

    after = scrape(client)
    rise = {series: after[series] - before[series] for series in after if series[0] == "webhook_seconds_count"}
    assert {series[1]: number for series, number in rise.items() if number} == {"200": 1, "400": 1}


def test_without_the_database_the_other_metrics_are_exported(client, monkeypatch):
    def fail():
        raise OperationalError("unavailable")

    monkeypatch.setattr(connection, "ensure_connection", fail)

    found = scrape(client)

    assert found["database_up",] == 0
    assert found["queue_up",] == 1
    assert not [series for series in found if series[0] == "leads_accepted_total"]
    assert found["webhook_seconds_count", "503"] >= 0


def test_openmetrics_is_used_on_request(client):
    answer = client.get("/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")

    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain; version=abc",
        "application/openmetrics-text; version=1.0.1.\x01",
        "application/openmetrics-text; version=" + "1" * 5000,
    ],
)
def test_an_invalid_version_is_ignored(client, accept):
    answer = client.get("/metrics", HTTP_ACCEPT=accept)

    assert answer.status_code == 200
    assert answer["Content-Type"].partition("; escaping")[0] in (
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )
