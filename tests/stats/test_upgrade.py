"""A database from before the audit browser is brought up to date with what its leads went through."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from leads.models import InboundLead
from tests.make import NOON

BEFORE = [("leads", "0002_append_only"), ("delivery", "0002_append_only")]


def migrate(targets: list[Any]) -> Any:
    """Migrate, and return the models as they then are."""
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return MigrationExecutor(connection).loader.project_state(targets).apps


@pytest.fixture
def old(transactional_db: None) -> Any:
    yield migrate(BEFORE)
    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())


def test_on_the_way_back_the_trail_stays_append_only(old: Any) -> None:
    lead = old.get_model("leads", "InboundLead").objects.create(raw_payload={})
    event = old.get_model("leads", "LeadEvent").objects.create(lead_id=lead.pk, kind="received", actor="webhook")

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        old.get_model("leads", "LeadEvent").objects.filter(pk=event.pk).delete()


def test_leads_are_told_of_their_attempts_and_duplicates(old: Any) -> None:
    leads, attempts, events = (
        old.get_model(*name)
        for name in (("leads", "InboundLead"), ("delivery", "DeliveryAttempt"), ("leads", "LeadEvent"))
    )

    def lead(status: str) -> int:
        ids = {"correlation_id": uuid.uuid4(), "idempotency_key": uuid.uuid4()}
        return int(leads.objects.create(raw_payload={}, status=status, received_at=NOON, **ids).pk)

    delivered, waiting, fresh = lead("DELIVERED"), lead("FAILED"), lead("RECEIVED")
    at = NOON + timedelta(minutes=1)
    done = {"requested_at": NOON, "finished_at": at}
    attempts.objects.create(lead_id=delivered, attempt_no=1, response_status=503, error_message="HTTP 503", **done)
    attempts.objects.create(lead_id=delivered, attempt_no=2, response_status=200, success=True, **done)
    attempts.objects.create(lead_id=waiting, attempt_no=1, error_message="connection refused", **done)
    attempts.objects.create(lead_id=waiting, attempt_no=2, requested_at=NOON)  # nobody knows how it ended
    events.objects.create(lead_id=fresh, kind="duplicate", actor="webhook", at=at)

    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())

    columns = ("last_answer", "delivered_at", "received_again_at")
    found = {pk: told for pk, *told in InboundLead.objects.values_list("pk", *columns)}
    assert found == {
        delivered: ["200", at, None],
        waiting: ["connection refused", None, None],
        fresh: [None, None, at],
    }
