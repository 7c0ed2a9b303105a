"""The changes that the database refuses, also to raw SQL."""

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from delivery.models import DeliveryAttempt
from leads.audit.append_only import allow_audit_changes
from leads.models import InboundLead, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db


def sql(statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def lead():
    lead = make.lead()
    LeadEvent.objects.create(lead=lead, kind="received", actor="webhook")
    make.attempt(lead=lead, attempt_no=1, success=True, response_status=200, finished_at=timezone.now())
    make.attempt(lead=lead, attempt_no=2, finished_at=None)
    return lead


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lead_event SET actor = 'anna'",
        "DELETE FROM lead_event",
        "UPDATE delivery_attempt SET success = false WHERE attempt_no = 1",
        "UPDATE delivery_attempt SET attempt_no = 9 WHERE attempt_no = 2",
        "UPDATE delivery_attempt SET requested_at = '2020-01-01 00:00:00' WHERE attempt_no = 2",
        "DELETE FROM delivery_attempt",
        "DELETE FROM inbound_lead",
    ],
)
def test_the_audit_log_cannot_be_changed_or_deleted(lead, statement):
    def everything():
        return [list(table.objects.order_by("pk").values()) for table in (InboundLead, LeadEvent, DeliveryAttempt)]

    before = everything()

    with pytest.raises(DatabaseError, match="append-only"):
        sql(statement)

    assert everything() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
@pytest.mark.parametrize("table", ["lead_event", "delivery_attempt", "inbound_lead"])
def test_the_audit_log_cannot_be_truncated(lead, table):
    with pytest.raises(DatabaseError, match="append-only"):
        sql(f"TRUNCATE {table} CASCADE")

    assert LeadEvent.objects.count() == 1


def test_an_attempt_is_completed_once(lead):
    sql("UPDATE delivery_attempt SET finished_at = CURRENT_TIMESTAMP, response_status = 503 WHERE attempt_no = 2")
    sql(f"INSERT INTO delivery_attempt (lead_id, attempt_no, response_status) VALUES ({lead.pk}, 3, 200)")

    for attempt_no in (2, 3):
        with pytest.raises(DatabaseError, match="append-only"):
            sql(f"UPDATE delivery_attempt SET success = true WHERE attempt_no = {attempt_no}")


def test_allowed_changes_delete_a_lead_with_its_rows(lead):
    with allow_audit_changes():
        sql("DELETE FROM inbound_lead")

    assert not LeadEvent.objects.exists()
    assert not DeliveryAttempt.objects.exists()


def test_changes_are_refused_after_the_block_and_after_an_error_in_it(lead):
    with allow_audit_changes():
        LeadEvent.objects.update(actor="erased")
    with pytest.raises(DatabaseError, match="append-only"):
        sql("DELETE FROM lead_event")

    with pytest.raises(RuntimeError), allow_audit_changes():
        raise RuntimeError
    with pytest.raises(DatabaseError, match="append-only"):
        sql("DELETE FROM lead_event")


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
def test_changes_are_allowed_in_one_transaction_only(lead):
    import psycopg

    params = {name: connection.get_connection_params()[name] for name in ("host", "port", "user", "dbname")}
    with allow_audit_changes(), psycopg.connect(**params) as other, pytest.raises(psycopg.Error, match="append-only"):
        other.execute("DELETE FROM lead_event")
