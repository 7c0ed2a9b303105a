"""The pipeline, against a real database and a customer on a real socket."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from delivery import pipeline
from delivery.models import DeliveryAttempt
from leads.models import InboundLead
from tests import make
from tests.background import run_at_once
from tests.delivery.conftest import advance, during_request
from tests.processes import wait_until

# No transaction around a test: the pipeline commits between its steps and closes its connection.
pytestmark = pytest.mark.django_db(transaction=True)


def stored(lead):
    return InboundLead.objects.get(pk=lead.pk)


def kinds(lead):
    return [f"{e.kind} {e.to_status}" if e.to_status else e.kind for e in lead.events.order_by("id")]


def assert_released(lead):
    lead = stored(lead)
    assert (lead.claim_token, lead.claimed_until) == (None, None)


def assert_not_sent(lead, customer):
    """Assert that the lead had no attempt, and that nothing more happens to it."""
    assert_released(lead)
    assert stored(lead).next_attempt_at is None
    assert customer.requests == []
    assert not lead.attempts.exists()


def test_a_valid_lead_is_delivered(config, customer):
    lead = make.lead(
        raw_payload=make.payload(phone="0151/123 456-78", solar_offer_type="Kaufen", solar_owner="Perhaps")
    )

    assert advance(lead.pk, config=config) is None

    done = stored(lead)
    assert done.status == "DELIVERED"
    assert done.customer_payload == {
        "phone": "+4915112345678",
        "product": {"name": "solar_panel_installation"},
        "attributes": [{"name": "solar_offer_type", "value": "Kaufen"}],
    }
    assert done.normalized_payload["phone"] == "+4915112345678"
    assert done.mapping_sha256 == config.mapping.sha256
    assert done.next_attempt_at is None
    assert_released(lead)
    assert kinds(lead) == ["status READY", "mapped", "attempt_started", "attempt_finished", "status DELIVERED"]
    assert lead.events.get(kind="mapped").detail["omitted"] == {"solar_owner": {"code": "not_allowed"}}
    attempt = lead.attempts.get()
    assert (attempt.attempt_no, attempt.response_status, attempt.success, attempt.error_message) == (1, 200, True, None)
    assert '"accepted"' in attempt.response_body
    assert attempt.has_outcome
    (received,) = customer.requests
    assert received["idempotency_key"] == str(lead.idempotency_key)
    assert received["correlation_id"] == str(lead.correlation_id)


@pytest.mark.parametrize(
    ("changes", "status", "reason", "events"),
    [
        ({"zipcode": "12345"}, "REJECTED", "ZIP_NOT_66XXX", ["status REJECTED"]),
        ({"house": {"is_owner": "true"}}, "REJECTED", "NOT_HOMEOWNER", ["status REJECTED"]),
        ({"phone": ...}, "FAILED", "MISSING_REQUIRED_FIELD", ["status READY", "mapped", "status FAILED"]),
        ({"phone": "call me"}, "FAILED", "MISSING_REQUIRED_FIELD", ["status READY", "mapped", "status FAILED"]),
    ],
)
def test_a_lead_that_breaks_a_rule_or_lacks_a_field_is_not_sent(config, customer, changes, status, reason, events):
    lead = make.lead(raw_payload=make.payload(changes))

    assert advance(lead.pk, config=config) is None

    assert (stored(lead).status, stored(lead).rejection_reason) == (status, reason)
    assert kinds(lead) == events
    assert_not_sent(lead, customer)


@pytest.mark.parametrize("status", [302, 404, 422])
def test_a_permanent_response_is_final(config, customer, status):
    customer.set_mode(f"status={status}")
    lead = make.lead()

    assert advance(lead.pk, config=config) is None
    assert advance(lead.pk, config=config) is None

    assert (stored(lead).status, stored(lead).next_attempt_at) == ("PERMANENTLY_FAILED", None)
    assert_released(lead)
    assert kinds(lead)[-2:] == ["attempt_finished", "status PERMANENTLY_FAILED"]
    error = {"code": "http_status", "status": status}
    assert lead.events.get(to_status="PERMANENTLY_FAILED").detail["reason"] == {
        "code": "rejected_by_customer",
        "error": error,
    }
    assert len(customer.requests) == 1
    assert (lead.attempts.get().response_status, lead.attempts.get().error_message) == (status, f"HTTP {status}")


@pytest.mark.parametrize(
    ("mode", "status"), [("status=503", 503), ("status=429", 429), ("reset=1", None), ("hang=1", None)]
)
def test_a_temporary_failure_is_retried_later(config, customer, mode, status):
    customer.set_mode(mode)
    lead = make.lead()

    due = advance(lead.pk, config=config)

    waiting = stored(lead)
    attempt = lead.attempts.get()
    assert waiting.status == "FAILED"
    assert waiting.next_attempt_at == due == attempt.finished_at + timedelta(seconds=30)
    assert waiting.enqueued_at == due
    assert_released(lead)
    assert (attempt.response_status, attempt.success) == (status, False)
    assert attempt.error_message
    assert kinds(lead)[-2:] == ["attempt_finished", "status FAILED"]


def test_an_error_is_stored_as_a_code_and_cannot_be_changed(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()

    advance(lead.pk, config=config)

    error = {"code": "http_status", "status": 503}
    attempt = lead.attempts.get()
    assert (attempt.error, attempt.error_message) == (error, "HTTP 503")
    assert lead.events.get(kind="attempt_finished").detail["error"] == error
    assert stored(lead).last_answer == "503"
    with pytest.raises(DatabaseError), transaction.atomic():
        lead.attempts.update(error=None)


def make_due(lead):
    InboundLead.objects.filter(pk=lead.pk).update(next_attempt_at=timezone.now())


def test_the_retry_schedule_ends_after_five_attempts(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()
    waits = []

    for _ in range(4):
        due = advance(lead.pk, config=config)
        waits.append((due - lead.attempts.latest("attempt_no").finished_at).total_seconds())
        make_due(lead)
    assert advance(lead.pk, config=config) is None

    assert waits == [30, 60, 120, 240]
    assert (stored(lead).status, stored(lead).next_attempt_at) == ("PERMANENTLY_FAILED", None)
    assert_released(lead)
    reason = lead.events.get(to_status="PERMANENTLY_FAILED").detail["reason"]
    assert (reason["code"], reason["attempts"]) == ("attempts_exhausted", 5)
    assert len(customer.requests) == 5
    assert {r["idempotency_key"] for r in customer.requests} == {str(lead.idempotency_key)}
    assert list(lead.attempts.order_by("attempt_no").values_list("attempt_no", flat=True)) == [1, 2, 3, 4, 5]
    assert kinds(lead)[-1] == "status PERMANENTLY_FAILED"


def test_a_retry_can_succeed(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()
    advance(lead.pk, config=config)
    customer.set_mode("")
    make_due(lead)

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "DELIVERED"
    assert kinds(lead)[-5:] == [
        "attempt_finished",
        "status FAILED",
        "attempt_started",
        "attempt_finished",
        "status DELIVERED",
    ]


@pytest.mark.parametrize(("asked", "wait"), [(7, 30), (45, 45), (999999, 3600)])
def test_a_later_retry_after_replaces_the_schedule(config, customer, asked, wait):
    customer.set_mode(f"status=429&retry_after={asked}")
    lead = make.lead()

    due = advance(lead.pk, config=config)

    assert stored(lead).next_attempt_at == lead.attempts.get().finished_at + timedelta(seconds=wait)
    assert stored(lead).enqueued_at == due == (stored(lead).next_attempt_at if wait <= 300 else None)


def test_a_lead_that_cannot_be_claimed_or_does_not_exist_is_not_processed(config, customer):
    lead = make.lead(status="DELIVERED", next_attempt_at=timezone.now())

    assert advance(lead.pk, config=config) is None
    assert advance(2_000_000_000, config=config) is None

    assert stored(lead).status == "DELIVERED"
    assert customer.requests == []


def test_many_messages_for_a_lead_lead_to_one_request(config, customer):
    lead = make.lead()

    run_at_once(*[lambda: advance(lead.pk, config=config)] * 16)

    assert len(customer.requests) == 1
    assert lead.attempts.count() == 1
    assert stored(lead).status == "DELIVERED"


# --- workers that stop -----------------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for SIGKILL: no code of the worker runs after it."""


def die(*_args, **_kwargs):
    raise Died


def let_lease_expire(lead):
    InboundLead.objects.filter(pk=lead.pk).update(claimed_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("statement", ["UPDATE inbound_lead SET status", "INSERT INTO delivery_attempt"])
def test_a_worker_that_stops_before_the_request_leaves_no_attempt(config, customer, statement):
    lead = make.lead()

    def stop_at_statement(execute, sql, *args):
        return die() if sql.startswith(statement) else execute(sql, *args)

    with pytest.raises(Died), connection.execute_wrapper(stop_at_statement):
        advance(lead.pk, config=config)

    assert advance(lead.pk, config=config) is None  # the lease has not expired
    assert customer.requests == []
    let_lease_expire(lead)
    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    assert len(customer.requests) == lead.attempts.count() == 1


@pytest.mark.parametrize(("when", "requests"), [("before", 1), ("after", 2)])
def test_a_worker_that_stops_after_the_attempt_began_leaves_its_outcome_unknown(config, customer, when, requests):
    lead = make.lead()
    with pytest.raises(Died):
        advance(lead.pk, config=during_request(config, **{when: die}))
    let_lease_expire(lead)

    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    first, second = lead.attempts.order_by("attempt_no")
    assert not first.has_outcome
    assert second.success
    assert len(customer.requests) == requests
    assert {r["idempotency_key"] for r in customer.requests} == {str(lead.idempotency_key)}
    assert [r["outcome"] for r in customer.requests][-1] == ("accepted" if requests == 1 else "duplicate")


def test_a_lead_whose_worker_stopped_in_the_last_attempt_gets_no_further_one(config, customer):
    lead = make.lead(status="FAILED")
    for number in range(1, 6):
        make.attempt(lead=lead, attempt_no=number, finished_at=None if number == 5 else timezone.now())

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "PERMANENTLY_FAILED"
    assert lead.events.get(kind="status").detail["reason"] == {"code": "outcome_unknown"}
    assert customer.requests == []


def test_a_worker_that_was_frozen_beyond_its_lease_stores_nothing(config, customer):
    lead = make.lead()

    def freeze():
        let_lease_expire(lead)
        customer.set_mode("status=422")
        advance(lead.pk, config=config)

    assert advance(lead.pk, config=during_request(config, after=freeze)) is None

    assert stored(lead).status == "PERMANENTLY_FAILED"
    first, second = lead.attempts.order_by("attempt_no")
    assert not first.has_outcome
    assert second.response_status == 422
    assert kinds(lead).count("attempt_finished") == 1


@pytest.mark.parametrize("status", ["RECEIVED", "READY"])
def test_a_worker_that_lost_its_claim_before_the_request_stores_no_attempt(config, status, caplog):
    lead = make.lead(status=status)
    other = make.lead(status=status)
    claims = pipeline.claim([lead.pk, other.pk], request_timeout=timedelta(seconds=2))
    InboundLead.objects.filter(pk=lead.pk).update(claim_token=uuid.uuid4())

    deliveries = pipeline.prepare(claims, config=config)

    assert [delivery.claim.lead.pk for delivery in deliveries] == [other.pk]
    assert not lead.attempts.exists()
    assert kinds(lead) == []
    assert other.attempts.count() == 1
    assert "claim_lost" in caplog.text


@pytest.mark.needs_postgres
def test_a_duplicate_post_waits_while_the_result_is_stored(config, customer, caplog):
    """The post and the pipeline lock the lead's row first and the end of its hash chain second."""
    lead = make.lead()

    def post_again():
        try:
            with transaction.atomic():
                InboundLead.objects.filter(pk=lead.pk).update(received_again_at=timezone.now())
                make.event(lead, "duplicate")
        finally:
            connection.close()

    def start_post_after_the_row_is_locked(execute, sql, *args):
        result = execute(sql, *args)
        if sql.startswith("UPDATE inbound_lead") and "delivered_at" in sql:
            sender.start()
            wait_until(is_lock_awaited, 10, "the post to wait", pause=0.01)
        return result

    sender = threading.Thread(target=post_again)
    with connection.execute_wrapper(start_post_after_the_row_is_locked):
        assert advance(lead.pk, config=config) is None

    sender.join()
    assert kinds(lead)[-2:] == ["status DELIVERED", "duplicate"]
    assert "results_not_stored_yet" not in caplog.text


def is_lock_awaited():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


def test_a_result_is_stored_when_the_database_is_available_again(config, customer):
    lead = make.lead()
    failures = iter([OperationalError("gone"), OperationalError("gone")])

    def fail_twice(execute, sql, *args):
        if "UPDATE delivery_attempt" in sql and (error := next(failures, None)):
            raise error
        return execute(sql, *args)

    with connection.execute_wrapper(fail_twice):
        advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    assert len(customer.requests) == lead.attempts.count() == 1


def test_a_result_whose_commit_was_not_confirmed_is_not_stored_twice(config, customer):
    lead = make.lead()
    claims = pipeline.claim([lead.pk], request_timeout=timedelta(seconds=2))
    results = [pipeline.send(one, config=config) for one in pipeline.prepare(claims, config=config)]

    pipeline.settle(results, config=config)
    assert pipeline.settle(results, config=config) == {}

    assert stored(lead).status == "DELIVERED"
    assert kinds(lead).count("attempt_finished") == 1


def test_a_redelivered_lead_has_all_its_attempts_again(config, customer):
    customer.set_mode("status=503")
    lead = make.lead(status="READY", uncounted_attempts=5)
    for number in range(1, 6):
        make.attempt(lead=lead, attempt_no=number)

    due = advance(lead.pk, config=config)

    attempt = DeliveryAttempt.objects.filter(lead=lead).latest("attempt_no")
    assert attempt.attempt_no == 6
    assert due == attempt.finished_at + timedelta(seconds=30)


# --- cost ------------------------------------------------------------------------------------------------------------


def test_a_delivered_lead_costs_eleven_statements(config, customer):
    lead = make.lead()

    with CaptureQueriesContext(connection) as queries:
        advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    begin = "BEGIN" if connection.vendor == "postgresql" else "BEGIN IMMEDIATE"
    assert [" ".join(query["sql"].split()[:3]).replace('"', "") for query in queries] == [
        "UPDATE inbound_lead SET",
        begin,
        "UPDATE inbound_lead SET",
        "INSERT INTO lead_event",
        "INSERT INTO delivery_attempt",
        "COMMIT",
        begin,
        "UPDATE delivery_attempt SET",
        "UPDATE inbound_lead SET",
        "INSERT INTO lead_event",
        "COMMIT",
    ]
