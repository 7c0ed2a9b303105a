"""The two health answers. What they cost while servers are down or frozen is in test_health_faults.py."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from leadgateway import queue
from stats.monitoring import readiness
from stats.monitoring.readiness import Check

READY = "/health/ready"


@pytest.fixture(autouse=True)
def _the_queue_holds_three(monkeypatch):
    monkeypatch.setattr(queue, "depth", lambda: 3)


def refuse(*_):
    raise OperationalError("connection to postgres://user:secret@host failed")


# --- /health ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/health", "/health/"])
@pytest.mark.parametrize("enable_auth", [True, False])
def test_health_is_ok_and_asks_neither_database_nor_queue(client, monkeypatch, settings, url, enable_auth):
    # Without the `django_db` mark every query fails the test.
    settings.ENABLE_AUTH = enable_auth
    client.cookies["sessionid"] = "somebody"
    monkeypatch.setattr(queue, "depth", lambda: pytest.fail("asked the queue"))
    monkeypatch.setattr(readiness, "look", lambda: pytest.fail("looked around"))

    response = client.get(url)

    assert response.status_code == 200
    assert response.content == b"OK"
    assert response["Content-Type"].startswith("text/plain")


# --- /health/ready ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("url", [READY, READY + "/"])
def test_ready_when_all_is_well(client, url):
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


@pytest.mark.django_db
def test_degraded_while_the_queue_is_away(client, monkeypatch):
    def away():
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "depth", away)

    response = client.get(READY)

    assert response.status_code == 200
    assert response.json()["status"] == "degraded"
    assert response.json()["checks"]["queue"] == {"ok": False, "reason": "cannot be reached (ConnectionError)"}
    assert response.json()["checks"]["database"] == {"ok": True}


@pytest.mark.django_db
def test_a_queue_that_does_not_answer_is_not_waited_for(client, monkeypatch, settings):
    settings.DATABASE_TIMEOUT = timedelta(seconds=2)
    thaw = threading.Event()
    monkeypatch.setattr(queue, "depth", lambda: thaw.wait(20))

    response = client.get(READY)
    thaw.set()

    assert response.json()["status"] == "degraded"
    assert response.json()["checks"]["queue"] == {"ok": False, "reason": "did not answer in time"}


@pytest.mark.django_db
def test_not_ready_while_the_database_is_away(client, monkeypatch):
    monkeypatch.setattr(connection, "cursor", refuse)

    response = client.get(READY)

    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert response.json()["checks"]["database"] == {
        "ok": False,
        "reason": "cannot be reached, or did not answer in time (OperationalError)",
    }
    assert response.json()["checks"]["migrations"]["ok"] is False
    assert response.json()["checks"]["queue"]["ok"] is True
    assert "secret" not in response.content.decode()


@pytest.mark.django_db
def test_not_ready_while_a_migration_is_missing(client):
    MigrationRecorder.Migration.objects.filter(app="delivery", name="0002_append_only").delete()

    response = client.get(READY)

    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert response.json()["checks"]["migrations"] == {
        "ok": False,
        "reason": "1 not applied: delivery.0002_append_only",
    }


@pytest.mark.django_db
def test_not_ready_in_an_empty_database(client):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")

    response = client.get(READY)

    assert response.status_code == 503
    assert "manage.py migrate" in response.json()["checks"]["migrations"]["reason"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content", [None, "{", '{"a": 1, "b": 2}', '{"%s": 1}' % ("a" * 500)], ids=["none", "broken", "two", "long"]
)
def test_not_ready_with_a_bad_mapping_file(client, settings, tmp_path, content):
    settings.ATTRIBUTE_MAPPING_FILE = tmp_path / "mapping.json"
    if content is not None:
        settings.ATTRIBUTE_MAPPING_FILE.write_text(content)

    response = client.get(READY)

    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert response.json()["checks"]["mapping"]["ok"] is False
    reason = response.json()["checks"]["mapping"]["reason"]
    assert 0 < len(reason) <= 200
    assert "\n" not in reason
    assert response.json()["checks"]["database"] == {"ok": True}


@pytest.mark.django_db
def test_with_authentication_strangers_see_only_what_is_wrong_not_why(client, settings, monkeypatch):
    settings.ENABLE_AUTH, settings.STATS_TOKEN = True, "a-token"
    MigrationRecorder.Migration.objects.filter(app="delivery").delete()

    strange = client.get(READY)
    known = client.get(READY, headers={"Authorization": "Bearer a-token"})

    assert strange.status_code == known.status_code == 503
    assert strange.json() == {
        "status": "not ready",
        "checks": {
            "database": {"ok": True},
            "queue": {"ok": True},
            "migrations": {"ok": False},
            "mapping": {"ok": True},
        },
    }
    assert "delivery.0001_tables" in known.json()["checks"]["migrations"]["reason"]


@pytest.mark.django_db
def test_with_authentication_staff_see_why(client, settings, admin_user):
    settings.ENABLE_AUTH = True
    client.force_login(admin_user)

    assert client.get(READY).json()["checks"]["queue"] == {"ok": True, "depth": 3}


@pytest.mark.django_db
def test_nobodys_session_is_looked_up_while_the_database_is_away(client, settings, monkeypatch, admin_user):
    settings.ENABLE_AUTH = True
    client.force_login(admin_user)
    monkeypatch.setattr(readiness, "_database", lambda: Check(False, "away"))
    monkeypatch.setattr("stats.api.views.is_staff_for_leads", lambda _: pytest.fail("looked a session up"))

    response = client.get(READY)

    assert response.status_code == 503
    assert response.json()["checks"]["database"] == {"ok": False}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (set(), "ready"),
        ({"queue"}, "degraded"),
        ({"database"}, "not ready"),
        ({"migrations"}, "not ready"),
        ({"mapping"}, "not ready"),
        ({"queue", "mapping"}, "not ready"),
    ],
)
def test_only_the_queue_alone_degrades(wrong, status):
    names = ("database", "queue", "migrations", "mapping")

    assert readiness.status({name: Check(name not in wrong) for name in names}) == status
