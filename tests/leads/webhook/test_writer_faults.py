"""The batch writer while its database or its queue fails."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from leadgateway.errors import ServiceUnavailable
from leadgateway.queue import publishing
from leads.models import InboundLead
from leads.webhook.writer import Writer
from tests import environment, make
from tests.e2e.gateway import manage
from tests.leads.webhook.test_writer import run, store
from tests.processes import free_port, scratch_directory, wait_until
from tests.servers import PgBouncer, PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

DATABASE = "lead_gateway"


# --- the database ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        server.create_database(DATABASE)
        var = str(scratch_directory("var"))
        manage(environment.of_a_process(**server.env, DB_NAME=DATABASE, VAR_DIR=var), "migrate", "--verbosity=0")
        yield server


@pytest.fixture
def server(_server, monkeypatch) -> Iterator[PostgresServer]:
    """A server of these tests, which the writer uses. It is empty and has no fault at the start of each test."""
    for name, value in {"HOST": "127.0.0.1", "PORT": _server.port, "NAME": DATABASE}.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    rows(_server, "SET lead_gateway.audit_changes_allowed = 'on'; DELETE FROM inbound_lead")
    yield _server
    if _server.process.is_running:
        _server.thaw()
    else:
        _server.start()
    _server.execute("ALTER SYSTEM RESET ALL")
    _server.execute("SELECT pg_reload_conf()")


def rows(server: PostgresServer, query: str) -> list[tuple]:
    with psycopg.connect(server.url_of(DATABASE), autocommit=True) as own:
        cursor = own.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def change_setting(server: PostgresServer, name: str, value: str) -> None:
    server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: rows(server, f"SHOW {name}") == [(value,)], 10, f"{name} is {value}")


@contextmanager
def locked_leads(server: PostgresServer) -> Iterator[None]:
    """Make every INSERT wait until the end of the block."""
    with psycopg.connect(server.url_of(DATABASE)) as own:
        own.execute("LOCK TABLE inbound_lead IN SHARE MODE")
        yield


_WRITING = "query LIKE '%%INSERT INTO inbound_lead%%' AND state = 'active' AND wait_event_type = '{kind}'"


async def terminated(server: PostgresServer, condition: str) -> None:
    """Wait for backends that fulfil the condition, and terminate them."""
    backends = f"pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition}"

    def terminate() -> None:
        pids: list[tuple] = []
        wait_until(lambda: pids.extend(rows(server, f"SELECT pid FROM {backends}")) or pids, 20, "a backend")
        chosen = ", ".join(str(pid) for (pid,) in pids)
        rows(server, f"SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE pid IN ({chosen})")

    await asyncio.to_thread(terminate)


def stored_payloads(server: PostgresServer) -> list:
    return [payload for (payload,) in rows(server, "SELECT raw_payload FROM inbound_lead ORDER BY id")]


def event_kinds(server: PostgresServer) -> list[str]:
    return [kind for (kind,) in rows(server, "SELECT kind FROM lead_event ORDER BY id")]


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
@pytest.mark.parametrize("window", [timedelta(days=1), timedelta()])
def test_an_idle_connection_that_was_closed_is_replaced(server, settings, window):
    settings.DEDUP_WINDOW = window

    async def scenario(writer):
        await writer.store(make.new_lead())
        await terminated(server, "application_name = 'lead_gateway'")
        return await writer.store(make.new_lead())

    assert run(scenario).duplicate is False
    assert event_kinds(server) == ["received"] * 2


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_a_statement_whose_connection_is_lost_is_repeated(server):
    async def scenario(writer):
        with locked_leads(server):
            posts = [asyncio.create_task(writer.store(make.new_lead())) for _ in range(3)]
            await terminated(server, _WRITING.format(kind="Lock"))
        return await asyncio.gather(*posts)

    assert {receipt.duplicate for receipt in run(scenario)} == {False}
    assert event_kinds(server) == ["received"] * 3


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_a_commit_that_was_not_confirmed_is_recognized(server):
    payload = make.payload()

    async def scenario(writer):
        await writer.store(make.new_lead())
        # The commit is complete, but waits for a standby that does not exist.
        await asyncio.to_thread(change_setting, server, "synchronous_standby_names", "missing")
        posts = [asyncio.create_task(writer.store(make.new_lead(each))) for each in (payload, make.payload(), payload)]
        await asyncio.to_thread(
            wait_until,
            lambda: rows(server, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
            20,
            "commit",
        )
        await terminated(server, "wait_event = 'SyncRep'")
        await asyncio.to_thread(change_setting, server, "synchronous_standby_names", "")
        return await asyncio.gather(*posts)

    receipts = run(scenario)

    assert sorted(receipt.duplicate for receipt in receipts) == [False, False, True]
    assert receipts[0].lead_id == receipts[2].lead_id
    assert event_kinds(server) == ["received"] * 3 + ["duplicate"]


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_without_deduplication_a_statement_is_not_repeated(server, settings):
    settings.DEDUP_WINDOW = timedelta()

    async def scenario(writer):
        with locked_leads(server):
            post = asyncio.create_task(writer.store(make.new_lead()))
            await terminated(server, _WRITING.format(kind="Lock"))
            with pytest.raises(ServiceUnavailable):
                await post
        return await writer.store(make.new_lead())

    assert run(scenario)
    assert event_kinds(server) == ["received"]


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_late_requests_fail_and_the_same_leads_can_be_posted_again_at_once(server, settings):
    settings.DATABASE_TIMEOUT = timedelta(milliseconds=300)
    payloads = [make.payload() for _ in range(5)]

    async def scenario(writer):
        with locked_leads(server):
            late = await asyncio.gather(
                *(writer.store(make.new_lead(each)) for each in payloads), return_exceptions=True
            )
        settings.DATABASE_TIMEOUT = timedelta(seconds=20)
        return late, await asyncio.gather(*(writer.store(make.new_lead(each)) for each in payloads))

    late, again = run(scenario)

    assert [str(error) for error in late] == ["database error"] * 5
    assert len({receipt.lead_id for receipt in again}) == len(stored_payloads(server)) == 5


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
@pytest.mark.parametrize("fault", ["freeze", "kill"])
def test_without_a_server_requests_fail_in_time_and_then_at_once(server, settings, fault):
    settings.DATABASE_TIMEOUT = timedelta(seconds=2)
    payload = make.payload()

    async def scenario(writer):
        before = await writer.store(make.new_lead())
        await asyncio.to_thread(getattr(server, fault))
        failures = []
        for _ in range(3):
            failures += await asyncio.gather(writer.store(make.new_lead(payload)), return_exceptions=True)
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            await writer.store(make.new_lead(payload))
        duration = time.monotonic() - started
        await asyncio.to_thread(server.thaw if fault == "freeze" else server.restart)
        await asyncio.sleep(0.6)
        settings.DATABASE_TIMEOUT = timedelta(seconds=20)
        return before, failures, duration, await writer.store(make.new_lead(payload))

    before, failures, duration, after = run(scenario)

    assert [str(error) for error in failures] == ["database error"] * 3
    assert duration < 1
    assert before.lead_id != after.lead_id
    assert len(stored_payloads(server)) == 2


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_a_restart_within_the_time_limit_is_not_noticed(server):
    async def scenario(writer):
        await writer.store(make.new_lead())
        await asyncio.to_thread(server.stop)
        post = asyncio.create_task(writer.store(make.new_lead()))
        await asyncio.to_thread(server.start)
        return await post

    assert run(scenario).duplicate is False


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_a_read_only_database_is_unavailable(server, settings):
    async def scenario(writer):
        await writer.store(make.new_lead())
        await asyncio.to_thread(change_setting, server, "default_transaction_read_only", "on")
        settings.DATABASE_TIMEOUT = timedelta(milliseconds=300)
        with pytest.raises(ServiceUnavailable, match="database error"):
            await writer.store(make.new_lead())
        await asyncio.to_thread(change_setting, server, "default_transaction_read_only", "off")
        settings.DATABASE_TIMEOUT = timedelta(seconds=20)
        return await writer.store(make.new_lead())

    assert run(scenario)
    assert len(stored_payloads(server)) == 2


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
def test_a_pooler_may_give_each_statement_another_connection(server, monkeypatch):
    payloads = [make.payload() for _ in range(400)]

    async def scenario(first):
        second = Writer()
        await second.start()
        try:
            for start in range(0, 400, 8):
                leads = [make.new_lead(payload) for payload in payloads[start : start + 8]]
                await asyncio.gather(*(writer.store(lead) for lead in leads for writer in (first, second)))
        finally:
            await second.stop()

    with PgBouncer(server, connections=2) as pooler:
        monkeypatch.setitem(connection.settings_dict, "PORT", pooler.port)
        run(scenario)

    assert event_kinds(server).count("received") == event_kinds(server).count("duplicate") == 400


# --- the queue -------------------------------------------------------------------------------------------------------


@pytest.fixture
def _queue():
    """Give the test connections of its own to the queue."""
    publishing.producers.cache_clear()
    yield
    publishing.producers.cache_clear()


def broken_url(monkeypatch, port):
    monkeypatch.setattr(publishing.app.conf, "broker_write_url", f"redis://127.0.0.1:{port}/0")


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
@pytest.mark.django_db(transaction=True)
def test_without_redis_leads_are_stored_for_the_sweep(monkeypatch):
    broken_url(monkeypatch, free_port())
    payload = make.payload()

    errors = store(*(make.new_lead() for _ in range(4)), make.new_lead(payload))

    assert [str(error) for error in errors] == ["queue unavailable"] * 5
    assert list(InboundLead.objects.values_list("status", "enqueued_at")) == [("RECEIVED", None)] * 5
    [again] = store(make.new_lead(payload))
    assert again.duplicate


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
@pytest.mark.django_db(transaction=True)
def test_a_lost_message_is_no_error_with_the_database_as_queue(monkeypatch, settings):
    broken_url(monkeypatch, free_port())
    settings.QUEUE_TYPE = "database"

    [receipt] = store(make.new_lead())

    assert receipt.duplicate is False
    assert InboundLead.objects.get().enqueued_at is None


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("_queue")
@pytest.mark.django_db(transaction=True)
def test_an_unresponsive_redis_does_not_delay_responses(monkeypatch, settings):
    settings.QUEUE_TIMEOUT = timedelta(milliseconds=500)

    async def scenario(writer):
        posts = []
        for _ in range(8):  # several batches wait for the same thread
            posts.append(asyncio.create_task(writer.store(make.new_lead())))
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(asyncio.gather(*posts, return_exceptions=True), 20)

    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen()
        broken_url(monkeypatch, black_hole.getsockname()[1])
        errors = run(scenario)

    assert [str(error) for error in errors] == ["queue unavailable"] * 8
    assert InboundLead.objects.count() == 8
