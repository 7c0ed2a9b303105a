"""`/health` and `/health/ready`. test_readiness_faults.py stops and freezes real servers."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from leadgateway import queue
from stats.monitoring import readiness

READY = "/health/ready"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_queue_holds_three(monkeypatch):
    monkeypatch.setattr(queue, "depth", lambda: 3)


def refuse(*_):
    raise OperationalError("connection to postgres://user:secret@host failed")


def checks_of(client, code, status):
    """Return the checks of the response, which must have the code and the status."""
    response = client.get(READY)
    assert (response.status_code, response.json()["status"]) == (code, status)
    return response.json()["checks"]


# --- /health ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/health", "/health/"])
def test_health_uses_neither_database_nor_queue(client, monkeypatch, settings, django_assert_num_queries, url):
    settings.ENABLE_AUTH = True
    client.cookies["sessionid"] = "a-session"
    monkeypatch.setattr(queue, "depth", lambda: pytest.fail("used the queue"))
    monkeypatch.setattr(readiness, "run_checks", lambda: pytest.fail("ran checks"))

    with django_assert_num_queries(0):
        response = client.get(url)

    assert response.status_code == 200
    assert response.content == b"OK"
    assert response["Content-Type"].startswith("text/plain")


# --- /health/ready ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [READY, READY + "/"])
def test_ready_if_all_checks_pass(client, url):
    response = client.get(url)

    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    checks = response.json()["checks"]
    assert list(checks) == ["database", "queue", "migrations", "mapping"]
    assert checks["database"] == checks["migrations"] == {"ok": True}
    assert checks["queue"] == {"ok": True, "depth": 3}
    assert checks["mapping"]["ok"] is True
    assert len(checks["mapping"]["sha256"]) == 64
    assert response["Cache-Control"] == "no-store"


def test_degraded_without_the_queue(client, monkeypatch):
    def fail():
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "depth", fail)

    checks = checks_of(client, 200, "degraded")

    assert checks["queue"] == {"ok": False, "reason": "cannot be reached (ConnectionError)"}
    assert checks["database"] == {"ok": True}


def test_an_unresponsive_queue_costs_the_timeout(client, monkeypatch, settings):
    settings.DATABASE_TIMEOUT = timedelta(seconds=2)
    thaw = threading.Event()
    monkeypatch.setattr(queue, "depth", lambda: thaw.wait(20))

    checks = checks_of(client, 200, "degraded")
    thaw.set()

    assert checks["queue"] == {"ok": False, "reason": "did not answer in time"}


def test_not_ready_without_the_database(client, monkeypatch):
    monkeypatch.setattr(connection, "cursor", refuse)

    checks = checks_of(client, 503, "not ready")

    reason = "cannot be reached, or did not answer in time (OperationalError)"
    assert checks["database"] == {"ok": False, "reason": reason}
    assert checks["migrations"]["ok"] is False
    assert checks["queue"]["ok"] is True
    assert "secret" not in str(checks)


def test_not_ready_without_a_migration(client):
    MigrationRecorder.Migration.objects.filter(app="delivery", name="0002_append_only").delete()

    checks = checks_of(client, 503, "not ready")
    assert checks["migrations"] == {"ok": False, "reason": "1 not applied: delivery.0002_append_only"}

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")
    assert "manage.py migrate" in checks_of(client, 503, "not ready")["migrations"]["reason"]


@pytest.mark.parametrize("content", [None, "{", '{"%s": 1}' % ("a" * 500)], ids=["none", "broken", "long"])
def test_not_ready_with_a_bad_mapping_file(client, settings, tmp_path, content):
    settings.ATTRIBUTE_MAPPING_FILE = tmp_path / "mapping.json"
    if content is not None:
        settings.ATTRIBUTE_MAPPING_FILE.write_text(content)

    checks = checks_of(client, 503, "not ready")

    assert checks["mapping"]["ok"] is False
    reason = checks["mapping"]["reason"]
    assert 0 < len(reason) <= 200
    assert "\n" not in reason
    assert checks["database"] == {"ok": True}


def test_with_authentication_the_reasons_need_the_token_or_a_session(client, settings, admin_user):
    settings.ENABLE_AUTH, settings.STATS_TOKEN = True, "a-token"
    MigrationRecorder.Migration.objects.filter(app="delivery").delete()

    anonymous = client.get(READY)
    reader = client.get(READY, headers={"Authorization": "Bearer a-token"})
    client.force_login(admin_user)
    staff = client.get(READY)

    assert anonymous.status_code == reader.status_code == 503
    assert anonymous.json() == {
        "status": "not ready",
        "checks": {
            "database": {"ok": True},
            "queue": {"ok": True},
            "migrations": {"ok": False},
            "mapping": {"ok": True},
        },
    }
    assert "delivery.0001_tables" in reader.json()["checks"]["migrations"]["reason"]
    assert staff.json() == reader.json()


def test_without_the_database_no_session_is_read(client, settings, monkeypatch, admin_user):
    settings.ENABLE_AUTH = True
    client.force_login(admin_user)
    monkeypatch.setattr(connection, "cursor", refuse)
    monkeypatch.setattr("stats.api.views.is_staff_for_leads", lambda _: pytest.fail("read a session"))

    assert checks_of(client, 503, "not ready")["database"] == {"ok": False}
