"""`doctor`: each check against the thing itself, sound and unsound."""

import json
import socket
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from delivery.models import DeliveryControl
from leads.models import LeadStatus
from stats.monitoring.doctor import customer, database, flow, installation
from stats.monitoring.doctor.finding import Check, Finding, Verdict, examine, ok
from tests import make
from tests.processes import free_port
from tests.servers import RedisServer

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL

on_postgres = pytest.mark.needs_postgres


def found(check: Check, subject: str | None = None) -> Finding:
    """Run a check here and return its one finding, or the one about `subject`."""
    findings = [finding for finding in check() if subject is None or finding.subject == subject]
    assert len(findings) == 1, findings
    return findings[0]


# --- how checks are run ----------------------------------------------------------------------------------------------


def test_a_check_that_hangs_is_left_behind_in_its_time() -> None:
    ends = threading.Event()

    def hanging() -> Iterator[Finding]:
        yield ok("first", "seen")
        ends.wait(30)

    started = time.monotonic()
    findings = examine("slow thing", hanging, limit_s=0.2)
    ends.set()

    assert time.monotonic() - started < 2
    assert [(finding.subject, finding.verdict) for finding in findings] == [("first", OK), ("slow thing", FAIL)]


def test_a_check_that_breaks_down_is_a_failure_of_its_own() -> None:
    def broken() -> Iterator[Finding]:
        yield ok("first", "seen")
        raise RuntimeError("for jane@example.com")

    findings = examine("thing", broken)

    assert [(finding.subject, finding.verdict) for finding in findings] == [("first", OK), ("thing", FAIL)]
    assert "RuntimeError" in findings[1].found
    assert "jane@example.com" not in findings[1].found


def test_a_database_that_is_away_is_told_as_such() -> None:
    def away() -> list[Finding]:
        raise OperationalError("connection failed: Connection refused\nIs the server running?")

    [finding] = examine("trail", away)

    assert (finding.verdict, finding.found) == (FAIL, "not known, the database says: Connection refused")


# --- the installation ------------------------------------------------------------------------------------------------


def test_the_installed_packages_are_those_of_the_requirements() -> None:
    assert found(installation.versions, "packages").verdict is OK


def test_another_version_of_a_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_installed", lambda name: "5.7.0" if name == "celery" else "1.0")

    finding = found(installation.versions, "packages")

    assert finding.verdict is WARN
    assert "celery 5.7.0, not 5.6.3" in finding.found


@pytest.mark.parametrize(
    ("subject", "changes", "verdict"),
    [
        ("DEBUG", {"DEBUG": False}, OK),
        ("DEBUG", {"DEBUG": True}, WARN),
        ("ENABLE_AUTH", {"ENABLE_AUTH": False}, WARN),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": ["s3cret-word-and-more"]}, OK),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": ["s3cret-word"]}, WARN),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": ["s3cret-word-and-more"], "STATS_TOKEN": "x"}, WARN),
        ("ENABLE_AUTH", {"ENABLE_AUTH": True, "SHARED_SECRETS": ["s3cret-word", "your_secret"]}, FAIL),
        ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": ["leads.example.com"]}, OK),
        ("ALLOWED_HOSTS", {"ALLOWED_HOSTS": ["leads.example.com", "*"]}, WARN),
    ],
)
def test_settings_for_trying_out_are_told(
    settings: Any, subject: str, changes: dict[str, Any], verdict: Verdict
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    finding = found(installation.exposure, subject)

    assert finding.verdict is verdict
    assert "s3cret-word" not in str(finding)


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, OK), (0o640, WARN), (0o604, WARN)])
def test_a_key_that_others_can_read_is_told(settings: Any, tmp_path: Path, mode: int, verdict: Verdict) -> None:
    file = tmp_path / "secret_key"
    file.write_text("s3cret-word" * 5)
    file.chmod(mode)
    settings.VAR_DIR, settings.SECRET_KEY = tmp_path, file.read_text()

    finding = found(installation.secret_key)

    assert finding.verdict is verdict
    assert "s3cret-word" not in str(finding)


def test_a_key_of_the_environment_needs_no_file(settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path

    assert found(installation.secret_key) == ok("SECRET_KEY", "given by SECRET_KEY")


def test_the_mapping_file_is_counted_and_identified() -> None:
    finding = found(installation.mapping)

    assert finding.verdict is OK
    assert "13 attributes" in finding.found
    assert "sha256 17021452c713d3df7ae4cedbf5e00195b5b71bc25d105c4dc679c8ba50d320ee" in finding.found


def test_a_mistake_in_the_mapping_file_is_named(settings: Any, tmp_path: Path) -> None:
    settings.ATTRIBUTE_MAPPING_FILE = tmp_path / "mapping.json"
    settings.ATTRIBUTE_MAPPING_FILE.write_text('{"solar_area": {"attribute_type": "area"}}')

    finding = found(installation.mapping)

    assert finding.verdict is FAIL
    assert "solar_area" in finding.found


@pytest.mark.parametrize(("free", "verdict"), [(50 * 2**30, OK), (2**29, WARN), (2**20, FAIL)])
def test_a_disk_that_fills_up_is_told(monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    usage = namedtuple("usage", "total used free")(2**40, 2**40 - free, free)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)

    assert found(installation.disk).verdict is verdict


# --- the database ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_sound_database_is_sound_in_every_respect() -> None:
    checks = (database.server, database.fitness, database.migrations, database.trail)

    findings = [finding for check in checks for finding in check()]

    assert {finding.verdict for finding in findings} == {OK}, findings
    subjects = {finding.subject for finding in findings}
    own = {"journal"} if connection.vendor == "sqlite" else {"database TLS", "connections"}
    assert subjects == {"database", "migrations", "trail"} | own


@pytest.mark.django_db
def test_a_slow_database_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_latency_ms", lambda: 80.0)

    assert found(database.server).verdict is WARN


@on_postgres
@pytest.mark.django_db
def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_number", lambda _name: 130_011)

    assert found(database.server).verdict is FAIL


@pytest.mark.django_db
def test_a_missing_trigger_is_named() -> None:
    table = "" if connection.vendor == "sqlite" else " ON lead_event"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER lead_event_no_update{table}")

    finding = found(database.trail)

    assert finding.verdict is FAIL
    assert finding.found.endswith("missing: lead_event_no_update")


@on_postgres
@pytest.mark.django_db
def test_a_disabled_trigger_is_as_bad_as_none() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE delivery_attempt DISABLE TRIGGER delivery_attempt_no_delete")

    assert found(database.trail).found.endswith("missing: delivery_attempt_no_delete")


@pytest.mark.django_db
def test_a_missing_migration_is_named() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'stats' AND name >= '0002_roles'")

    finding = found(database.migrations)

    assert finding.verdict is FAIL
    assert "stats.0002_roles" in finding.found


@on_postgres
@pytest.mark.django_db
@pytest.mark.parametrize(("conns", "verdict"), [(10, OK), (1000, WARN)])
def test_more_connections_than_the_server_has_are_told(settings: Any, conns: int, verdict: Verdict) -> None:
    settings.DB_MAX_OPEN_CONNS = conns

    assert found(database.fitness, "connections").verdict is verdict


@on_postgres
@pytest.mark.django_db
def test_more_worker_threads_than_connections_are_told(settings: Any) -> None:
    settings.WORKER_CONCURRENCY = settings.DB_MAX_OPEN_CONNS + 1

    assert found(database.fitness, "worker threads").verdict is WARN


@on_postgres
@pytest.mark.django_db
def test_a_plain_connection_to_another_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    monkeypatch.setitem(connection.settings_dict, "HOST", "db.example.com")

    finding = found(database.fitness, "database TLS")

    assert (finding.verdict, finding.found) == (WARN, "DB_SSLMODE=disable, not encrypted")


@on_postgres
@pytest.mark.django_db
def test_the_pool_is_back_after_the_examination() -> None:
    options = connection.settings_dict["OPTIONS"]
    pool = options["pool"]

    with database.without_pool():
        assert "pool" not in options
    assert options["pool"] is pool


# --- the flow --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("queued_leads")
def test_an_empty_queue_is_sound() -> None:
    findings = list(flow.broker_fitness())

    assert {finding.verdict for finding in findings if finding.subject in ("queue", "queue depth")} == {OK}


@pytest.mark.django_db
@pytest.mark.usefixtures("queued_leads")
def test_a_deep_queue_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadgateway.queue.depth", lambda: 5000)

    assert found(flow.broker_fitness, "queue depth").verdict is WARN


@pytest.fixture
def own_redis(settings: Any) -> Iterator[RedisServer]:
    """A Redis that a test may misconfigure, used by the checks."""
    with RedisServer() as server:
        settings.QUEUE_TYPE, settings.REDIS_URL = "redis", server.url
        settings.CELERY_BROKER_URL, settings.CELERY_BROKER_TRANSPORT_OPTIONS = server.url, {}
        yield server


@pytest.mark.parametrize(
    ("name", "value", "subject", "verdict"),
    [
        ("maxmemory-policy", "noeviction", "redis memory", OK),
        ("maxmemory-policy", "allkeys-lru", "redis memory", WARN),
        ("appendonly", "yes", "redis persistence", OK),
        ("appendonly", "no", "redis persistence", WARN),
    ],
)
def test_a_redis_that_may_lose_the_queue_is_told(
    own_redis: RedisServer, name: str, value: str, subject: str, verdict: Verdict
) -> None:
    with own_redis.client() as client:
        client.config_set(name, value)

    assert {finding.subject: finding.verdict for finding in flow._redis()}[subject] is verdict


def test_a_frozen_redis_is_told_in_time(own_redis: RedisServer) -> None:
    own_redis.freeze()
    started = time.monotonic()

    finding = found(flow.broker_fitness)

    own_redis.thaw()
    assert finding.verdict is FAIL
    assert time.monotonic() - started < 5


@pytest.mark.django_db
def test_no_worker_that_answers_is_a_failure(own_redis: RedisServer) -> None:
    assert found(flow.workers, "workers").verdict is FAIL


@pytest.mark.parametrize(
    ("check", "subject", "columns", "age", "verdict"),
    [
        (flow.workers, "waiting leads", {"enqueued_at": make.NOON}, 30, OK),
        (flow.workers, "waiting leads", {"enqueued_at": make.NOON}, 90, WARN),
        (flow.workers, "waiting leads", {"enqueued_at": None}, 90, OK),
        (flow.beat, "sweep", {"enqueued_at": None}, 5, OK),
        (flow.beat, "sweep", {"enqueued_at": None}, 90, WARN),
        (flow.beat, "sweep", {"enqueued_at": make.NOON}, 90, OK),
        (flow.beat, "sweep", {"enqueued_at": None, "status": LeadStatus.DELIVERED}, 90, OK),
    ],
)
@pytest.mark.django_db
def test_a_lead_that_waits_for_somebody_is_told(
    settings: Any, check: Check, subject: str, columns: dict[str, Any], age: int, verdict: Verdict
) -> None:
    settings.QUEUE_TYPE = "database"  # nobody to ask
    make.lead(**{"next_attempt_at": timezone.now() - timedelta(seconds=age), **columns})

    assert found(check, subject).verdict is verdict


HELD = {"paused_at": make.NOON, "paused_by": "anna", "pause_reason": "their maintenance"}
DOWN = {"circuit_opened_at": make.NOON, "next_probe_at": make.NOON}


@pytest.mark.parametrize(("state", "verdict"), [({}, OK), (HELD, WARN), (DOWN, FAIL)])
@pytest.mark.django_db
def test_what_keeps_leads_from_going_out_is_told(state: dict[str, Any], verdict: Verdict) -> None:
    DeliveryControl.objects.create(**state)
    make.lead(status="READY", next_attempt_at=make.NOON)

    finding = found(flow.way_out)

    assert finding.verdict is verdict
    assert ("1 leads wait" in finding.found) == bool(state)


@pytest.mark.parametrize(("status", "verdict"), [("READY", OK), ("RECEIVED", WARN)])
@pytest.mark.parametrize("state", [HELD, DOWN])
@pytest.mark.django_db
def test_the_sweep_is_not_suspected_for_what_waits_at_the_gate(
    state: dict[str, Any], status: str, verdict: Verdict
) -> None:
    DeliveryControl.objects.create(**state)
    make.lead(status=status, next_attempt_at=make.NOON)

    assert found(flow.beat).verdict is verdict


# --- the customer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://customer.example.com/lead/SECRET_PATH", OK),
        ("http://customer.example.com/lead/SECRET_PATH", WARN),
        ("http://127.0.0.1:8081/lead/SECRET_PATH", OK),
        ("ftp://customer.example.com/SECRET_PATH", FAIL),
        ("https://user:SECRET_PATH@customer.example.com/", FAIL),
    ],
)
def test_the_customers_address_is_judged_and_its_path_not_shown(settings: Any, url: str, verdict: Verdict) -> None:
    settings.CUSTOMER_API_URL = url

    finding = found(customer.address)

    assert finding.verdict is verdict
    assert "SECRET_PATH" not in str(finding)


def test_the_customers_port_is_reached_and_no_byte_is_sent(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/lead"
        finding = found(customer.connection)
        peer, _ = listener.accept()
        with closing(peer):
            assert peer.recv(100) == b""

    assert finding.verdict is OK


def test_a_customer_who_is_not_there_is_a_failure(settings: Any) -> None:
    settings.CUSTOMER_API_URL = f"http://127.0.0.1:{free_port()}/lead"

    finding = found(customer.connection)

    assert finding.verdict is FAIL
    assert "no connection" in finding.found


def test_a_name_that_does_not_resolve_is_told_as_such(settings: Any) -> None:
    settings.CUSTOMER_API_URL = "https://customer.invalid/lead"

    finding = found(customer.connection)

    assert finding.verdict is FAIL
    assert "the name does not resolve" in finding.found


def test_a_customer_who_speaks_no_tls_is_a_failure(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"https://127.0.0.1:{listener.getsockname()[1]}/lead"
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        finding = found(customer.connection)
        thread.join()

    assert finding.verdict is FAIL


@pytest.mark.parametrize(
    ("token", "verdict"),
    [("s3cret-word", OK), ("FakeCustomerToken", WARN), ("your_bearer_token_here", WARN), ("", WARN)],
)
def test_a_token_that_was_never_set_is_told(settings: Any, token: str, verdict: Verdict) -> None:
    settings.CUSTOMER_API_TOKEN = token

    finding = found(customer.token)

    assert finding.verdict is verdict
    assert "s3cret-word" not in str(finding)


# --- the command -----------------------------------------------------------------------------------------------------


def doctor(*arguments: str) -> tuple[str, int]:
    """Run the command; return what it printed and its exit code."""
    output = StringIO()
    try:
        call_command("doctor", *arguments, stdout=output)
    except SystemExit as end:
        return output.getvalue(), int(end.code or 0)
    return output.getvalue(), 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queued_leads")
def test_everything_is_examined_although_the_customer_fails() -> None:
    output, code = doctor("--json")

    findings = {finding["subject"]: finding for finding in json.loads(output)}
    assert code == 1
    assert findings["customer"]["verdict"] == "FAIL"
    assert findings["CUSTOMER_API_TOKEN"]["verdict"] == "warn"  # comes after it
    assert {name for name, finding in findings.items() if finding["verdict"] == "FAIL"} <= {"customer", "workers"}
    assert all(finding["advice"] for finding in findings.values() if finding["verdict"] != "ok")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queued_leads")
def test_a_sound_gateway_ends_with_zero(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_answering", lambda: ok("workers", "1: celery@host"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/lead"
        output, code = doctor()

    assert code == 0
    assert output.splitlines()[-1].endswith("0 FAIL")
    assert output.startswith("ok    python")
    assert max(map(len, output.splitlines())) <= 100
