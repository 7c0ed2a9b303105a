"""The migrations can be reversed and applied again, and the database limits idle transactions."""

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from leads.audit.append_only import allow_audit_changes
from leads.models import LeadEvent
from tests import make

APPS = ("stats", "delivery", "leads")

pytestmark = pytest.mark.django_db(transaction=True)


def triggers():
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
        return {name for (name,) in cursor.fetchall()}


def test_the_migrations_are_reversible_and_restore_the_triggers():
    before = triggers()
    try:
        for app in APPS:
            call_command("migrate", app, "zero", verbosity=0)
        tables = connection.introspection.table_names()
        assert triggers() == set()
    finally:
        call_command("migrate", verbosity=0)

    assert not {"inbound_lead", "lead_event", "delivery_attempt", "incident"} & set(tables)
    assert "lead_event_link" in before
    assert triggers() == before
    lead = make.lead()
    event = LeadEvent.objects.create(lead=lead, kind="received", actor="webhook")
    event.refresh_from_db()
    assert event.hash
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        LeadEvent.objects.all().delete()
    with allow_audit_changes(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM inbound_lead")
    assert not LeadEvent.objects.exists()


@pytest.fixture
def restored_database():
    """Restore what `migrate` changes outside of the tables."""
    yield
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" RESET ALL')


def idle_transaction_timeout():
    """Return the limit of a new session."""
    server, name = connection.settings_dict, connection.settings_dict["NAME"]
    with psycopg.connect(host=server["HOST"], port=server["PORT"], user=server["USER"], dbname=name) as session:
        return session.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0]


@pytest.mark.needs_postgres
@pytest.mark.usefixtures("restored_database")
def test_new_sessions_limit_idle_transactions():
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" RESET ALL')
    assert idle_transaction_timeout() == "0"

    call_command("migrate", verbosity=0)

    assert idle_transaction_timeout() == "1min"


@pytest.mark.needs_postgres
def test_a_role_that_is_not_the_owner_gets_the_statement_for_the_owner(capsys):
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger IN ROLE pg_read_all_data, pg_write_all_data")
        cursor.execute("SET ROLE stranger")
    try:
        call_command("migrate", verbosity=0)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP ROLE stranger")

    assert "SET idle_in_transaction_session_timeout = '60s';" in capsys.readouterr().err
