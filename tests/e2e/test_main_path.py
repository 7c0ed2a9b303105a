"""The way of a lead from webhook to customer, on PostgreSQL and Redis and on the embedded default."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import receipts
from tests.hostile_customer import PHONE_PREFIX, HostileCustomer, LedgerRecord
from tests.make import customer_payload, payload
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EXAMPLE_LEAD = payload(email="test@example.com")


@pytest.fixture(
    scope="module",
    params=["PostgreSQL and Redis", pytest.param("embedded", marks=pytest.mark.embedded)],
)
def gateway(request: pytest.FixtureRequest, running_customer: HostileCustomer) -> Iterator[Gateway]:
    servers: dict[str, Any] = {}
    if request.param != "embedded":
        names = ("postgres", "redis")
        servers = {name: request.getfixturevalue(name) for name in names} | {"redis_database": 1}
    with Gateway(customer_url=running_customer.url, CUSTOMER_API_TOKEN="the-customers-token", **servers) as running:
        yield running


def gaps(requests: list[LedgerRecord]) -> list[float]:
    """Return the seconds between requests by the customer's clock."""
    times = [datetime.fromisoformat(request["time"]) for request in requests]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def timeline(gateway: Gateway, lead_id: int) -> list[tuple[str, str | None]]:
    return [(event["kind"], event["to_status"]) for event in gateway.events(lead_id)]


def test_the_example_lead_is_delivered_and_recorded(gateway: Gateway, customer: HostileCustomer) -> None:
    answer = gateway.post(EXAMPLE_LEAD)

    assert answer.status_code == 200
    body = answer.json()
    assert body == {"lead_id": body["lead_id"], "status": "RECEIVED", "correlation_id": body["correlation_id"]}
    assert answer.headers["X-Correlation-ID"] == body["correlation_id"]
    lead = gateway.wait_for("DELIVERED", body["lead_id"])
    assert lead["raw_payload"] == lead["normalized_payload"] == EXAMPLE_LEAD
    assert lead["customer_payload"] == customer_payload()
    assert (lead["rejection_reason"], lead["next_attempt_at"], lead["claim_token"]) == (None, None, None)

    [request] = receipts(gateway, customer, lead["id"])
    assert request["payload"] == lead["customer_payload"]
    assert request["booked"]
    assert request["correlation_id"] == lead["correlation_id"] == body["correlation_id"]

    [attempt] = gateway.attempts(lead["id"])
    assert (attempt["attempt_no"], attempt["success"], attempt["response_status"]) == (1, True, 200)
    assert attempt["error_message"] is None
    assert '"accepted"' in attempt["response_body"]
    assert attempt["requested_at"] <= attempt["finished_at"]
    assert timeline(gateway, lead["id"]) == [
        ("received", None),
        ("status", "READY"),
        ("mapped", None),
        ("attempt_started", None),
        ("attempt_finished", None),
        ("status", "DELIVERED"),
    ]
    events = gateway.events(lead["id"])
    assert [event["actor"] for event in events] == ["webhook"] + ["worker"] * 5
    # An event repeats the id only if another request caused it.
    assert {event["correlation_id"] or lead["correlation_id"] for event in events} == {lead["correlation_id"]}


def test_valid_attributes_are_sent_and_invalid_ones_recorded(gateway: Gateway, customer: HostileCustomer) -> None:
    lead_id = gateway.accept(payload(solar_offer_type="Kaufen", solar_energy_consumption="a lot", hobby="chess"))
    lead = gateway.wait_for("DELIVERED", lead_id)

    [request] = receipts(gateway, customer, lead_id)
    assert request["payload"] == customer_payload(attributes=[{"name": "solar_offer_type", "value": "Kaufen"}])
    assert lead["raw_payload"]["hobby"] == "chess"
    [mapped] = [event for event in gateway.events(lead_id) if event["kind"] == "mapped"]
    assert list(mapped["detail"]["omitted"]) == ["solar_energy_consumption"]


def test_a_lead_that_breaks_a_rule_is_rejected_and_never_sent(gateway: Gateway, customer: HostileCustomer) -> None:
    lead_id = gateway.accept(payload(zipcode="65123"))

    lead = gateway.wait_for("REJECTED", lead_id)
    assert lead["rejection_reason"] == "ZIP_NOT_66XXX"
    assert (lead["normalized_payload"], lead["customer_payload"], lead["next_attempt_at"]) == (None, None, None)
    assert timeline(gateway, lead_id) == [("received", None), ("status", "REJECTED")]
    assert gateway.attempts(lead_id) == []
    assert receipts(gateway, customer, lead_id) == []


def test_a_lead_without_a_phone_fails_and_is_never_sent(gateway: Gateway, customer: HostileCustomer) -> None:
    lead_id = gateway.accept(payload(phone=...))

    lead = gateway.wait_for("FAILED", lead_id)
    assert (lead["rejection_reason"], lead["next_attempt_at"]) == ("MISSING_REQUIRED_FIELD", None)
    assert gateway.attempts(lead_id) == []
    assert receipts(gateway, customer, lead_id) == []


def test_a_duplicate_payload_is_recognised_and_not_sent_twice(gateway: Gateway, customer: HostileCustomer) -> None:
    sent = payload()
    lead_id = gateway.accept(sent)
    gateway.wait_for("DELIVERED", lead_id)

    again = gateway.post(sent)

    assert again.status_code == 200
    assert again.json() == {
        "lead_id": lead_id,
        "status": "DELIVERED",
        "correlation_id": again.headers["X-Correlation-ID"],
        "duplicate": True,
    }
    assert timeline(gateway, lead_id)[-1] == ("duplicate", None)
    assert len(receipts(gateway, customer, lead_id)) == 1


def test_a_failing_customer_gets_five_attempts_on_schedule(gateway: Gateway, customer: HostileCustomer) -> None:
    lead_id = gateway.accept(payload(phone=f"{PHONE_PREFIX}503"))
    gateway.wait_for("FAILED", lead_id)
    gateway.wait_for("DELIVERED", gateway.accept(payload()))  # other leads are not delayed
    assert gateway.lead(lead_id)["status"] == "FAILED"

    lead = gateway.wait_for("PERMANENTLY_FAILED", lead_id, timeout=60)

    requests = receipts(gateway, customer, lead_id)
    # A busy machine may delay a retry. It must never be early.
    for number, gap in enumerate(gaps(requests)):
        assert 0.5 * 2**number <= gap < 0.5 * 2**number + 10, gaps(requests)
    assert {request["correlation_id"] for request in requests} == {lead["correlation_id"]}
    attempts = gateway.attempts(lead_id)
    assert [attempt["attempt_no"] for attempt in attempts] == [1, 2, 3, 4, 5]
    assert {(attempt["response_status"], attempt["success"]) for attempt in attempts} == {(503, False)}
    assert (lead["next_attempt_at"], lead["customer_payload"]["phone"]) == (None, f"{PHONE_PREFIX}503")
    statuses = [to for kind, to in timeline(gateway, lead_id) if kind == "status"]
    assert statuses == ["READY", "FAILED", "PERMANENTLY_FAILED"]


def test_a_4xx_is_never_retried(gateway: Gateway, customer: HostileCustomer) -> None:
    lead_id = gateway.accept(payload(phone=f"{PHONE_PREFIX}422"))

    lead = gateway.wait_for("PERMANENTLY_FAILED", lead_id)
    assert lead["next_attempt_at"] is None
    [attempt] = gateway.attempts(lead_id)
    assert (attempt["response_status"], attempt["success"]) == (422, False)
    assert len(receipts(gateway, customer, lead_id)) == 1


def test_retry_after_is_honoured(gateway: Gateway, customer: HostileCustomer) -> None:
    customer.set_mode("status=429&retry_after=3&fail_first=1")
    lead_id = gateway.accept(payload())

    gateway.wait_for("DELIVERED", lead_id)

    [gap] = gaps(receipts(gateway, customer, lead_id))
    assert 3 <= gap < 15
    assert [attempt["response_status"] for attempt in gateway.attempts(lead_id)] == [429, 200]


@pytest.mark.parametrize("mode", ["reset=1", "status=500", "hang=1"])
def test_a_lead_is_delivered_after_a_failure_of_the_customer(
    gateway: Gateway, customer: HostileCustomer, mode: str
) -> None:
    # A request on a used connection that is reset is sent once more in the same attempt.
    customer.set_mode(f"{mode}&fail_first={2 if mode == 'reset=1' else 1}")
    lead_id = gateway.accept(payload())

    gateway.wait_for("DELIVERED", lead_id)

    first, *others = gateway.attempts(lead_id)
    assert first["finished_at"] is not None
    assert not first["success"]
    assert others[-1]["success"]
    if mode != "status=500":
        assert first["response_status"] is None
        assert first["error_message"]


def test_the_customer_recognises_a_retried_lead_by_its_key(gateway: Gateway, customer: HostileCustomer) -> None:
    customer.set_mode("reset=after&fail_first=1")
    lead_id = gateway.accept(payload())

    gateway.wait_for("DELIVERED", lead_id)

    requests = receipts(gateway, customer, lead_id)
    assert [request["booked"] for request in requests] == [True, False]
    assert [request["duplicate"] for request in requests] == [False, True]


@pytest.mark.alone
def test_responses_stay_fast_while_the_customer_hangs(gateway: Gateway, customer: HostileCustomer) -> None:
    customer.set_mode("hang=1")
    answers = [gateway.post(payload()) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 0.5
    wait_until(lambda: customer.requests[-1]["outcome"] == "hang", 5, "the customer to hang")
    customer.set_mode("")
    gateway.wait_for_all("DELIVERED", [answer.json()["lead_id"] for answer in answers], timeout=30)


def test_no_personal_data_is_logged(gateway: Gateway) -> None:
    lead_id = gateway.accept(payload(email="anna.schmidt@example.com", phone="+49681998877"))
    gateway.wait_for("DELIVERED", lead_id)

    assert f'"lead_id": {lead_id}' in gateway.logs("worker")
    for name in ("web", "worker", "beat"):
        log = gateway.logs(name)
        assert "anna.schmidt" not in log
        assert "681998877" not in log
        assert "the-customers-token" not in log
