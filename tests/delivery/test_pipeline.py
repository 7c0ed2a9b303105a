"""How a lead advances, against a real database and a customer on a real socket."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from delivery import pipeline
from delivery.models import DeliveryAttempt
from delivery.pipeline import advance
from leads.models import InboundLead
from leads.webhook import intake
from tests import make
from tests.processes import wait_until

# No transaction around a test: the pipeline commits between its steps, and gives its connection back in between.
pytestmark = pytest.mark.django_db(transaction=True)


def stored(lead):
    return InboundLead.objects.get(pk=lead.pk)


def trail(lead):
    return [f"{e.kind} {e.to_status}" if e.to_status else e.kind for e in lead.events.order_by("id")]


def assert_released(lead):
    lead = stored(lead)
    assert (lead.claim_token, lead.claimed_until) == (None, None)


def assert_at_rest(lead):
    assert_released(lead)
    assert stored(lead).next_attempt_at is None


def test_a_good_lead_goes_all_the_way(config, customer):
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
    assert_at_rest(lead)
    assert trail(lead) == ["status READY", "mapped", "attempt_started", "attempt_finished", "status DELIVERED"]
    assert lead.events.get(kind="mapped").detail["omitted"] == {"solar_owner": "not one of the allowed values"}
    attempt = lead.attempts.get()
    assert (attempt.attempt_no, attempt.response_status, attempt.success, attempt.error_message) == (1, 200, True, None)
    assert '"accepted"' in attempt.response_body
    assert attempt.has_outcome
    (received,) = customer.requests
    assert received["idempotency_key"] == str(lead.idempotency_key)
    assert received["correlation_id"] == str(lead.correlation_id)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zipcode": "12345"}, "ZIP_NOT_66XXX"),
        ({"zipcode": ...}, "ZIP_NOT_66XXX"),
        ({"house": {"is_owner": "true"}}, "NOT_HOMEOWNER"),
    ],
)
def test_a_lead_that_breaks_a_rule_never_leaves_the_house(config, customer, changes, reason):
    lead = make.lead(raw_payload=make.payload(changes))

    assert advance(lead.pk, config=config) is None

    assert (stored(lead).status, stored(lead).rejection_reason) == ("REJECTED", reason)
    assert_at_rest(lead)
    assert trail(lead) == ["status REJECTED"]
    assert customer.requests == []
    assert not lead.attempts.exists()


@pytest.mark.parametrize("phone", [..., "", "   ", "call me", None, 0.5, {}, True])
def test_without_a_phone_a_lead_fails_with_no_attempt(config, customer, phone):
    lead = make.lead(raw_payload=make.payload(phone=phone))

    assert advance(lead.pk, config=config) is None

    assert (stored(lead).status, stored(lead).rejection_reason) == ("FAILED", "MISSING_REQUIRED_FIELD")
    assert_at_rest(lead)
    assert trail(lead) == ["status READY", "mapped", "status FAILED"]
    assert customer.requests == []
    assert not lead.attempts.exists()


@pytest.mark.parametrize("status", [300, 301, 302, 307, 400, 401, 403, 404, 408, 409, 410, 422])
def test_a_refusal_is_final(config, customer, status):
    customer.set_mode(f"status={status}")
    lead = make.lead()

    assert advance(lead.pk, config=config) is None
    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "PERMANENTLY_FAILED"
    assert_at_rest(lead)
    assert trail(lead)[-2:] == ["attempt_finished", "status PERMANENTLY_FAILED"]
    assert len(customer.requests) == 1
    assert lead.attempts.get().response_status == status
    assert lead.attempts.get().error_message == f"HTTP {status}"


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        ("status=503", 503),
        ("status=500", 500),
        ("status=429", 429),
        ("reset=1", None),
        ("close=1", None),
        ("hang=1", None),
        ("garbage=1", None),
    ],
)
def test_a_failure_that_may_pass_is_waited_out(impatient, customer, mode, status):
    customer.set_mode(mode)
    lead = make.lead()

    due = advance(lead.pk, config=impatient)

    waiting = stored(lead)
    attempt = lead.attempts.get()
    assert waiting.status == "FAILED"
    assert waiting.next_attempt_at == due == attempt.finished_at + timedelta(seconds=30)
    assert waiting.enqueued_at == due
    assert_released(lead)
    assert (attempt.response_status, attempt.success) == (status, False)
    assert attempt.error_message
    assert trail(lead)[-2:] == ["attempt_finished", "status FAILED"]


def make_due(lead):
    InboundLead.objects.filter(pk=lead.pk).update(next_attempt_at=timezone.now())


def test_the_schedule_is_the_seeds_and_then_it_is_over(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()
    waits = []

    for _ in range(4):
        due = advance(lead.pk, config=config)
        waits.append((due - lead.attempts.latest("attempt_no").finished_at).total_seconds())
        make_due(lead)
    assert advance(lead.pk, config=config) is None

    assert waits == [30, 60, 120, 240]
    assert stored(lead).status == "PERMANENTLY_FAILED"
    assert_at_rest(lead)
    assert len(customer.requests) == 5
    assert {r["idempotency_key"] for r in customer.requests} == {str(lead.idempotency_key)}
    assert list(lead.attempts.order_by("attempt_no").values_list("attempt_no", flat=True)) == [1, 2, 3, 4, 5]
    assert trail(lead)[-1] == "status PERMANENTLY_FAILED"


def test_a_failure_and_then_a_success(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()
    advance(lead.pk, config=config)
    customer.set_mode("")
    make_due(lead)

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "DELIVERED"
    assert trail(lead)[-5:] == [
        "attempt_finished",
        "status FAILED",
        "attempt_started",
        "attempt_finished",
        "status DELIVERED",
    ]


@pytest.mark.parametrize(("asked", "wait"), [(7, 30), (45, 45), (999999, 3600)])
def test_the_customers_retry_after_counts_when_it_is_later(config, customer, asked, wait):
    customer.set_mode(f"status=429&retry_after={asked}")
    lead = make.lead()

    due = advance(lead.pk, config=config)

    assert due == lead.attempts.get().finished_at + timedelta(seconds=wait)
    assert stored(lead).enqueued_at == (due if wait <= 300 else None)


@pytest.mark.parametrize("status", ["REJECTED", "DELIVERED", "PERMANENTLY_FAILED"])
def test_a_lead_that_is_done_is_left_alone(config, customer, status):
    lead = make.lead(status=status, next_attempt_at=timezone.now())

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == status
    assert customer.requests == []


@pytest.mark.parametrize(
    "columns",
    [
        {"next_attempt_at": None},
        {"next_attempt_at": timezone.now() + timedelta(hours=1)},
        {"claim_token": uuid.uuid4(), "claimed_until": timezone.now() + timedelta(hours=1)},
    ],
)
def test_a_lead_that_is_not_due_or_in_other_hands_is_left_alone(config, customer, columns):
    lead = make.lead(status="FAILED", **columns)

    assert advance(lead.pk, config=config) is None

    assert customer.requests == []
    assert stored(lead).claim_token == columns.get("claim_token")


def test_an_unknown_lead_is_no_reason_to_fail(config):
    assert advance(2_000_000_000, config=config) is None


def test_of_many_doorbells_one_is_answered(config, customer):
    lead = make.lead()

    def answer():
        try:
            advance(lead.pk, config=config)
        finally:
            connection.close()

    threads = [threading.Thread(target=answer) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(customer.requests) == 1
    assert lead.attempts.count() == 1
    assert stored(lead).status == "DELIVERED"


# --- workers that die ------------------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for SIGKILL: nothing of the worker's own code runs after it."""


def die(*_args, **_kwargs):
    raise Died


def let_lease_run_out(lead):
    InboundLead.objects.filter(pk=lead.pk).update(claimed_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("where", ["_prepare", "_qualify", "_begin_attempt"])
def test_a_worker_that_dies_before_the_request_leaves_nothing_behind(config, customer, monkeypatch, where):
    lead = make.lead()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, where, die)
        with pytest.raises(Died):
            advance(lead.pk, config=config)

    assert advance(lead.pk, config=config) is None  # the lease still runs
    assert customer.requests == []
    let_lease_run_out(lead)
    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    assert len(customer.requests) == lead.attempts.count() == 1


@pytest.mark.parametrize(("where", "requests"), [("_exchange", 1), ("_settle", 2)])
def test_a_worker_that_dies_with_the_request_leaves_an_attempt_of_unknown_outcome(
    config, customer, monkeypatch, where, requests
):
    lead = make.lead()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, where, die)
        with pytest.raises(Died):
            advance(lead.pk, config=config)
    let_lease_run_out(lead)

    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    first, second = lead.attempts.order_by("attempt_no")
    assert not first.has_outcome
    assert second.success
    assert len(customer.requests) == requests
    assert {r["idempotency_key"] for r in customer.requests} == {str(lead.idempotency_key)}
    assert [r["outcome"] for r in customer.requests][-1] == ("accepted" if requests == 1 else "duplicate")


def test_a_worker_that_dies_in_the_last_attempt_does_not_get_a_sixth(config, customer):
    lead = make.lead(status="FAILED")
    for number in range(1, 6):
        make.attempt(lead=lead, attempt_no=number, finished_at=None if number == 5 else timezone.now())

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "PERMANENTLY_FAILED"
    assert "unknown" in lead.events.get(kind="status").detail["reason"]
    assert customer.requests == []


def test_who_was_frozen_beyond_the_lease_writes_nothing(config, customer, monkeypatch):
    lead = make.lead()
    deliver = pipeline._exchange

    def freeze(lead_, attempt, **kwargs):
        answer = deliver(lead_, attempt, **kwargs)
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "_exchange", deliver)
            let_lease_run_out(lead)
            customer.set_mode("status=422")
            advance(lead.pk, config=config)
        return answer

    monkeypatch.setattr(pipeline, "_exchange", freeze)

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "PERMANENTLY_FAILED"
    first, second = lead.attempts.order_by("attempt_no")
    assert not first.has_outcome
    assert second.response_status == 422
    assert trail(lead).count("attempt_finished") == 1


def test_who_was_frozen_before_the_request_does_not_send_it(config, customer, monkeypatch):
    lead = make.lead(status="READY")
    begin = pipeline._begin_attempt

    def freeze(claim, **kwargs):
        InboundLead.objects.filter(pk=lead.pk).update(claim_token=uuid.uuid4())
        return begin(claim, **kwargs)

    monkeypatch.setattr(pipeline, "_begin_attempt", freeze)

    assert advance(lead.pk, config=config) is None

    assert customer.requests == []
    assert not lead.attempts.exists()


@pytest.mark.needs_postgres
def test_a_post_that_comes_again_while_the_outcome_is_written_waits_for_it(config, customer, monkeypatch, caplog):
    lead = make.lead(payload_hash="the-hash")
    told, write = [], pipeline._record_outcome

    def post_again():
        try:
            told.append(intake._receive_again("the-hash", **POSTED_NOW))
        finally:
            connection.close()

    def write_slowly(*args, **kwargs):
        write(*args, **kwargs)
        sender.start()
        wait_until(somebody_waits_for_a_lock, 10, "the sender to wait", pause=0.01)

    sender = threading.Thread(target=post_again)
    monkeypatch.setattr(pipeline, "_record_outcome", write_slowly)

    assert advance(lead.pk, config=config) is None

    sender.join()
    assert [receipt.status for receipt in told] == ["READY"], "as it was when the sender asked"
    assert trail(lead)[-2:] == ["status DELIVERED", "duplicate"]
    assert "outcome_not_written_yet" not in caplog.text


POSTED_NOW = {"correlation_id": str(uuid.uuid4()), "at": timezone.now(), "dedup_window": timedelta(days=1)}


def somebody_waits_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


def test_an_outcome_is_written_as_soon_as_the_database_is_back(config, customer, monkeypatch):
    lead = make.lead()
    settle, failures = pipeline._settle, iter([OperationalError("gone"), OperationalError("gone")])

    def flaky(*args, **kwargs):
        if error := next(failures, None):
            raise error
        return settle(*args, **kwargs)

    monkeypatch.setattr(pipeline, "_SETTLE_PAUSE_S", 0.01)
    monkeypatch.setattr(pipeline, "_settle", flaky)

    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    assert len(customer.requests) == lead.attempts.count() == 1


def test_an_outcome_whose_commit_was_answered_too_late_is_not_written_twice(config, customer, monkeypatch):
    lead = make.lead()
    settle, calls = pipeline._settle, []

    def commit_and_lose_the_answer(*args, **kwargs):
        result = settle(*args, **kwargs)
        calls.append(result)
        if len(calls) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return result

    monkeypatch.setattr(pipeline, "_SETTLE_PAUSE_S", 0.01)
    monkeypatch.setattr(pipeline, "_settle", commit_and_lose_the_answer)

    assert advance(lead.pk, config=config) is None

    assert stored(lead).status == "DELIVERED"
    assert trail(lead).count("attempt_finished") == 1
    assert len(calls) == 2


def test_what_the_customer_answers_may_hold_anything(config, customer):
    customer.set_mode("garbage=body")
    lead = make.lead()

    advance(lead.pk, config=config)

    assert stored(lead).status == "DELIVERED"
    assert "\x00" not in lead.attempts.get().response_body


def test_the_same_number_of_attempts_is_left_after_a_redelivery(config, customer):
    customer.set_mode("status=503")
    lead = make.lead(status="READY", uncounted_attempts=5)
    for number in range(1, 6):
        make.attempt(lead=lead, attempt_no=number)

    due = advance(lead.pk, config=config)

    attempt = DeliveryAttempt.objects.filter(lead=lead).latest("attempt_no")
    assert attempt.attempt_no == 6
    assert due == attempt.finished_at + timedelta(seconds=30)
