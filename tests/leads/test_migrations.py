"""The migrations can be reversed and applied again."""

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
