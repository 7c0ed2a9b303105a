"""pipeline_status and hourly_statistics, as somebody types them."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from delivery.control.pause import pause_delivery
from leads.models import EventKind
from stats.models import Heartbeat, HourlyStatistics, Incident, MonitoringState
from tests import make
from tests.processes import free_port
from tests.servers import PostgresServer

pytestmark = pytest.mark.django_db(transaction=True)  # the command looks from a thread of its own

MINUTE = timedelta(minutes=1)


def run(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the output of pipeline_status."""
    out = StringIO()
    try:
        call_command("pipeline_status", *arguments, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def found() -> dict[str, str]:
    """Return the verdict on each thing."""
    return {finding["subject"]: finding["verdict"] for finding in json.loads(run("--json")[1])}


@pytest.fixture
def processes() -> None:
    """Worker and beat live, and the pipeline was just checked."""
    now = timezone.now()
    for kind in ("worker", "beat"):
        Heartbeat.objects.create(name=f"{kind}@host", kind=kind, started_at=now, seen_at=now)
    MonitoringState.objects.create(checked_at=now)


def test_all_is_well(processes: None) -> None:
    code, text = run()

    assert code == 0
    assert "ok    workers             1 alive" in text
    assert text.strip().endswith("10 ok, 0 warn, 0 FAIL")
    assert set(found().values()) == {"ok"}


def test_without_worker_and_beat_it_is_bad() -> None:
    code, text = run()

    assert code == 1
    assert "FAIL  workers             No worker is running" in text
    assert "-> Leads are taken, but not delivered." in text
    assert "FAIL  beat" in text
    assert found()["last check"] == "warn"


def test_what_is_bad_is_in_the_json_with_the_same_words(processes: None) -> None:
    make.lead(next_attempt_at=timezone.now() - 6 * MINUTE)

    code, text = run("--json")

    assert code == 1
    [bad] = [finding for finding in json.loads(text) if finding["verdict"] == "FAIL"]
    assert bad["subject"] == "leads"
    assert bad["found"].startswith("1 lead is late: it has been due for 6 min")


def test_delivery_that_is_held_for_a_while_is_a_warning(processes: None) -> None:
    pause_delivery(actor="otto", reason="maintenance", now=timezone.now())

    code, text = run()

    assert code == 0
    assert "warn  hold                Delivery has been held for" in text


def test_a_check_that_is_long_ago_is_bad(processes: None) -> None:
    MonitoringState.objects.update(checked_at=timezone.now() - 4 * MINUTE)

    assert run()[0] == 1
    assert found()["last check"] == "FAIL"


def test_an_incident_that_is_just_ending_is_told(processes: None) -> None:
    now = timezone.now()
    Incident.objects.create(kind="no_worker", opened_at=now - 9 * MINUTE, last_seen_at=now)

    code, text = run()

    assert code == 0
    assert "warn  open incident       no_worker, since 9 min" in text


@pytest.mark.needs_postgres
def test_without_the_database_that_is_said(postgres: PostgresServer, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict, "PORT", free_port())
    code, text = run()

    assert code == 1
    assert "FAIL  database            cannot be reached: " in text
    assert "0 ok, 0 warn, 1 FAIL" in text


# --- hourly_statistics -----------------------------------------------------------------------------------------------


def statistics(*arguments: str) -> str:
    out = StringIO()
    call_command("hourly_statistics", *arguments, stdout=out)
    return out.getvalue()


def test_hours_are_shown_the_latest_first() -> None:
    now = timezone.now()
    counts = {"accepted": 120, "rejected": {"ZIP_NOT_66XXX": 3, "NOT_HOMEOWNER": 4}, "delivered": 110, "p95_s": 2.54}
    HourlyStatistics.objects.create(hour=now - timedelta(hours=2), source="portal-a", **counts)
    HourlyStatistics.objects.create(hour=now - timedelta(hours=30), accepted=9)
    HourlyStatistics.objects.create(hour=now - timedelta(hours=31), accepted=9)
    MonitoringState.objects.create(counted_until=now)

    [_head, line] = statistics().splitlines()

    assert line.split()[2:] == ["120", "0", "7", "110", "0", "0", "-", "2.5", "s", "portal-a"]
    assert len(statistics("--hours", "100").splitlines()) == 4
    assert json.loads(statistics("--json"))[0]["rejected"] == {"ZIP_NOT_66XXX": 3, "NOT_HOMEOWNER": 4}


def test_the_command_counts_what_is_over_by_itself() -> None:
    make.event(kind=EventKind.RECEIVED, now=timezone.now() - timedelta(hours=3))

    [row] = json.loads(statistics("--json"))

    assert row["accepted"] == 1


def test_with_nothing_that_is_said() -> None:
    assert statistics() == "Nothing happened in these hours, or none is over yet.\n"


def test_a_number_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(CommandError, match="hours"):
        statistics("--hours", "0")
