"""The commands pipeline_status, doctor and hourly_statistics. Their checks are tested in tests/stats/monitoring."""

import json
import socket
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.utils import timezone

from leads.models import EventKind
from stats.models import Heartbeat, HourlyStatistics, Incident, MonitoringState
from tests import make
from tests.commands import output_of, run
from tests.processes import free_port
from tests.servers import PostgresServer

pytestmark = pytest.mark.django_db(transaction=True)  # the command checks in another thread

MINUTE = timedelta(minutes=1)


def verdicts() -> dict[str, str]:
    """Return the verdict of each check."""
    return {result["check"]: result["verdict"] for result in json.loads(run("pipeline_status", "--json")[1])}


@pytest.fixture
def processes() -> None:
    """A worker and beat that have run for an hour and just checked the pipeline."""
    now = timezone.now()
    for kind in ("worker", "beat"):
        Heartbeat.objects.create(name=f"{kind}@host", kind=kind, started_at=now - 60 * MINUTE, seen_at=now)
    MonitoringState.objects.create(checked_at=now)


def test_a_sound_pipeline_passes(processes: None) -> None:
    code, text = run("pipeline_status")

    assert code == 0
    assert "ok       workers              1 running" in text
    assert text.strip().endswith("9 ok, 0 warnings, 1 unknown, 0 failures")
    assert {name for name, verdict in verdicts().items() if verdict != "ok"} == {"deliveries_fail"}


def test_without_worker_and_beat_it_fails() -> None:
    code, text = run("pipeline_status")

    assert code == 1
    assert "FAILURE  workers              No worker is running" in text
    assert "-> Leads are accepted but not delivered." in text
    assert "FAILURE  beat                 Beat is not running" in text
    assert verdicts()["last_check"] == "warning"


def test_the_json_has_the_same_sentences(processes: None) -> None:
    make.lead(next_attempt_at=timezone.now() - 6 * MINUTE)

    code, text = run("pipeline_status", "--json")

    assert code == 1
    [failure] = [result for result in json.loads(text) if result["verdict"] == "failure"]
    assert failure["check"] == "leads_stuck"
    assert failure["detail"].startswith("1 lead is late: it has been due for 6 min")


def test_an_old_last_check_fails_and_a_closing_incident_is_a_warning(processes: None) -> None:
    now = timezone.now()
    Incident.objects.create(kind="no_worker", opened_at=now - 9 * MINUTE, last_seen_at=now)
    code, text = run("pipeline_status")
    assert code == 0
    assert "warning  open incident        no_worker, open for 9 min" in text

    MonitoringState.objects.update(checked_at=now - 4 * MINUTE)
    assert run("pipeline_status")[0] == 1
    assert verdicts()["last_check"] == "failure"


def test_nothing_fails_while_the_gateway_starts() -> None:
    now = timezone.now()
    Heartbeat.objects.create(name="worker@host", kind="worker", started_at=now, seen_at=now)
    assert run("pipeline_status")[0] == 0
    assert verdicts() | {"no_beat": "unknown", "last_check": "unknown"} == verdicts()

    MonitoringState.objects.create(checked_at=now - timedelta(days=1))  # before the restart
    assert verdicts()["last_check"] == "unknown"

    Heartbeat.objects.update(started_at=now - 4 * MINUTE)
    assert verdicts() | {"no_beat": "failure", "last_check": "failure"} == verdicts()


@pytest.mark.needs_postgres
def test_without_the_database_only_that_is_reported(
    postgres: PostgresServer, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "PORT", free_port())
    code, text = run("pipeline_status")

    assert code == 1
    assert "FAILURE  database             The database cannot be reached: " in text
    assert "0 ok, 0 warnings, 1 failure" in text


# --- doctor ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("processes", "queued_leads")
def test_a_failure_does_not_hide_the_other_results() -> None:
    code, output = run("doctor", "--json")

    results = {result["check"]: result for result in json.loads(output)}
    assert code == 1
    assert results["customer_connection"]["verdict"] == "failure"
    assert results["CUSTOMER_API_TOKEN"]["verdict"] == "warning"
    assert results["no_worker"]["verdict"] == "ok"  # comes after it
    failing = {name for name, result in results.items() if result["verdict"] == "failure"}
    assert failing <= {"customer_connection", "worker_ping"}
    assert all(result["remedy"] for result in results.values() if result["verdict"] in ("warning", "failure"))


@pytest.mark.usefixtures("processes", "queued_leads")
def test_without_a_failure_the_exit_code_is_zero(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/lead"
        settings.QUEUE_TYPE = "database"  # no worker can be pinged
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(settings.VAR_DIR)}
        code, output = run("doctor")

    assert code == 0, output
    assert output.splitlines()[-1].endswith(" 0 failures")
    assert output.startswith("ok       python")
    assert max(map(len, output.splitlines())) <= 100


# --- hourly_statistics -----------------------------------------------------------------------------------------------


def test_hours_are_shown_newest_first() -> None:
    now = timezone.now()
    counts = {"accepted": 120, "rejected": {"ZIP_NOT_66XXX": 3, "NOT_HOMEOWNER": 4}, "delivered": 110, "p95_s": 2.54}
    HourlyStatistics.objects.create(hour=now - timedelta(hours=2), source="portal-a", **counts)
    HourlyStatistics.objects.create(hour=now - timedelta(hours=30), accepted=9)
    HourlyStatistics.objects.create(hour=now - timedelta(hours=31), accepted=9)
    MonitoringState.objects.create(hours_counted_until=now)

    [_head, line] = output_of("hourly_statistics").splitlines()

    assert line.split()[2:] == ["120", "0", "7", "110", "0", "0", "-", "2.5", "s", "portal-a"]
    assert len(output_of("hourly_statistics", "--hours", "100").splitlines()) == 4
    assert json.loads(output_of("hourly_statistics", "--json"))[0]["rejected"] == {
        "ZIP_NOT_66XXX": 3,
        "NOT_HOMEOWNER": 4,
    }


def test_complete_hours_are_counted_first() -> None:
    assert output_of("hourly_statistics").startswith("No statistics for these hours yet.")
    make.event(kind=EventKind.RECEIVED, now=timezone.now() - timedelta(hours=3))

    [row] = json.loads(output_of("hourly_statistics", "--json"))

    assert row["accepted"] == 1
    with pytest.raises(CommandError, match="hours"):
        output_of("hourly_statistics", "--hours", "0")
