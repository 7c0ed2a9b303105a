"""The doctor command. Its checks are tested in tests/stats/monitoring/checks."""

import json
import socket
from contextlib import closing
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.utils import timezone

from stats.models import Heartbeat

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("queued_leads")]


def doctor(*arguments: str) -> tuple[str, int]:
    """Run the command; return its output and its exit code."""
    output = StringIO()
    try:
        call_command("doctor", *arguments, stdout=output)
    except SystemExit as end:
        return output.getvalue(), int(end.code or 0)
    return output.getvalue(), 0


@pytest.fixture
def processes() -> None:
    """Heartbeats of a worker and of beat."""
    now = timezone.now()
    for kind in ("worker", "beat"):
        Heartbeat.objects.create(name=f"{kind}@host", kind=kind, started_at=now, seen_at=now)


@pytest.mark.usefixtures("processes")
def test_a_failure_does_not_hide_the_other_results() -> None:
    output, code = doctor("--json")

    results = {result["check"]: result for result in json.loads(output)}
    assert code == 1
    assert results["customer_connection"]["verdict"] == "failure"
    assert results["CUSTOMER_API_TOKEN"]["verdict"] == "warning"
    assert results["no_worker"]["verdict"] == "ok"  # comes after it
    failing = {name for name, result in results.items() if result["verdict"] == "failure"}
    assert failing <= {"customer_connection", "worker_ping"}
    assert all(result["remedy"] for result in results.values() if result["verdict"] in ("warning", "failure"))


@pytest.mark.usefixtures("processes")
def test_without_a_failure_the_exit_code_is_zero(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/lead"
        settings.QUEUE_TYPE = "database"  # no worker can be pinged
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(django_settings.VAR_DIR)}
        output, code = doctor()

    assert code == 0, output
    assert output.splitlines()[-1].endswith(" 0 failures")
    assert output.startswith("ok       python")
    assert max(map(len, output.splitlines())) <= 100
