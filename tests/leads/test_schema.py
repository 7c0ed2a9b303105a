"""The schema of the specification, as the database reports it."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from leads.models import InboundLead
from tests import make

pytestmark = pytest.mark.django_db

#: table -> column -> (type, may be null, has a default). Times carry their zone, see docs/decisions.
SPECIFIED = {
    "inbound_lead": {
        "id": ("integer", "NO"),
        "received_at": ("timestamp with time zone", "NO"),
        "raw_payload": ("jsonb", "NO"),
        "source_headers": ("jsonb", "YES"),
        "status": ("character varying(20)", "NO"),
        "rejection_reason": ("character varying(100)", "YES"),
        "normalized_payload": ("jsonb", "YES"),
        "customer_payload": ("jsonb", "YES"),
        "payload_hash": ("character varying(64)", "YES"),
        "created_at": ("timestamp with time zone", "NO"),
        "updated_at": ("timestamp with time zone", "NO"),
    },
    "delivery_attempt": {
        "id": ("integer", "NO"),
        "lead_id": ("integer", "NO"),
        "attempt_no": ("integer", "NO"),
        "requested_at": ("timestamp with time zone", "NO"),
        "response_status": ("integer", "YES"),
        "response_body": ("text", "YES"),
        "error_message": ("text", "YES"),
        "success": ("boolean", "NO"),
        "created_at": ("timestamp with time zone", "NO"),
    },
}

INDEXES = {
    "idx_inbound_lead_status": ("inbound_lead", False),
    "idx_inbound_lead_received_at": ("inbound_lead", False),
    "idx_inbound_lead_payload_hash": ("inbound_lead", True),
    "idx_delivery_attempt_lead_id": ("delivery_attempt", False),
    "idx_delivery_attempt_success": ("delivery_attempt", False),
    "idx_delivery_attempt_requested_at": ("delivery_attempt", False),
    "idx_delivery_attempt_lead_attempt": ("delivery_attempt", True),
}


def query(sql, *params):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.needs_postgres
@pytest.mark.parametrize("table", SPECIFIED)
def test_the_columns_are_as_specified(table):
    rows = query(
        "SELECT column_name, data_type || coalesce('(' || character_maximum_length || ')', ''), is_nullable"
        " FROM information_schema.columns WHERE table_name = %s",
        table,
    )
    found = {name: (data_type, nullable) for name, data_type, nullable in rows}

    assert {name: found.get(name) for name in SPECIFIED[table]} == SPECIFIED[table]


@pytest.mark.needs_postgres
def test_the_indexes_are_as_specified():
    rows = query("SELECT indexname, tablename, indexdef LIKE 'CREATE UNIQUE%%' FROM pg_indexes")
    found = {name: (table, unique) for name, table, unique in rows}

    assert {name: found.get(name) for name in INDEXES} == INDEXES


@pytest.mark.needs_postgres
def test_the_database_deletes_attempts_and_events_with_their_lead():
    rows = query("SELECT conrelid::regclass::text, confdeltype::text FROM pg_constraint WHERE contype = 'f'")

    assert {("delivery_attempt", "c"), ("lead_event", "c")} <= set(rows)


def test_a_plain_insert_creates_a_due_lead():
    query("INSERT INTO inbound_lead (raw_payload) VALUES ('{}')")

    lead = InboundLead.objects.get()
    assert lead.status == "RECEIVED"
    assert lead.received_at == lead.created_at == lead.updated_at
    assert lead.correlation_id != lead.idempotency_key
    assert list(InboundLead.objects.due(timezone.now()).values_list("pk", flat=True)) == [lead.pk]


def test_a_plain_insert_creates_an_attempt():
    lead = make.lead()

    query(f"INSERT INTO delivery_attempt (lead_id, attempt_no) VALUES ({lead.pk}, 1)")

    attempt = lead.attempts.get()
    assert attempt.success is False
    assert not attempt.has_outcome


_NEW_ATTEMPT = "INSERT INTO delivery_attempt (lead_id, attempt_no, response_status)"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO inbound_lead (raw_payload, status) VALUES ('{}', 'LOST')", "check_status"),
        ("INSERT INTO inbound_lead (status) VALUES ('RECEIVED')", "raw_payload"),
        (f"{_NEW_ATTEMPT} VALUES (%d, 0, NULL)", "check_attempt_no"),
        (f"{_NEW_ATTEMPT} VALUES (%d, 2, 99)", "check_response_status"),
        (f"{_NEW_ATTEMPT} VALUES (%d, 2, 600)", "check_response_status"),
        (f"{_NEW_ATTEMPT} VALUES (%d, 1, NULL)", "lead_attempt|attempt_no"),
    ],
)
def test_constraints_have_the_specified_names(statement, constraint):
    lead = make.lead()
    make.attempt(lead=lead, attempt_no=1)

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        query(statement.replace("%d", str(lead.pk)))
