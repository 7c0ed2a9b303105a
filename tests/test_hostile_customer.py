import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.hostile_customer import HostileCustomer
from tests.processes import wait_until

LEAD = {"phone": "+49123456789", "product": {"name": "solar"}, "attributes": []}


@pytest.fixture
def customer() -> Iterator[HostileCustomer]:
    with HostileCustomer() as running:
        yield running


def send(customer: HostileCustomer, key: str = "a", *, lead: Any = LEAD, timeout: float = 20) -> Any:
    headers = {"Connection": "close", "Idempotency-Key": key, "X-Correlation-ID": "c-1"}
    return requests.post(customer.url, json=lead, headers=headers, timeout=timeout, allow_redirects=False)


def outcomes(customer: HostileCustomer) -> list[tuple[str, bool]]:
    return [(record["outcome"], record["booked"]) for record in customer.requests]


def test_a_lead_is_booked_once_per_key(customer: HostileCustomer) -> None:
    first, again, other = send(customer, "a"), send(customer, "a"), send(customer, "b")

    assert first.json() == {"status": "accepted", "id": "1"}
    assert again.json() == {"status": "accepted", "id": "1", "duplicate": True}
    assert other.json() == {"status": "accepted", "id": "2"}
    assert outcomes(customer) == [("accepted", True), ("duplicate", False), ("accepted", True)]


def test_a_record_holds_what_was_received(customer: HostileCustomer) -> None:
    send(customer)
    refused = send(customer, lead={"phone": "+491"})

    record, without_product = customer.requests
    assert record.pop("time")  # type: ignore[misc]
    assert record == {
        "idempotency_key": "a",
        "correlation_id": "c-1",
        "phone": "+49123456789",
        "product": "solar",
        "outcome": "accepted",
        "booked": True,
        "duplicate": False,
        "id": "1",
        "payload": LEAD,
    }
    assert refused.status_code == 422
    assert (without_product["outcome"], without_product["booked"]) == ("status 422", False)


@pytest.mark.parametrize(
    ("mode", "outcome", "booked"),
    [
        ("reset=1", "reset", False),
        ("reset=after", "reset after booking", True),
        ("close=1", "close", False),
        ("garbage=1", "garbage", False),
        ("hang=1", "hang", False),
        ("delay=1m", "accepted", True),
    ],
)
def test_a_mode_gives_no_usable_response(customer: HostileCustomer, mode: str, outcome: str, booked: bool) -> None:
    customer.set_mode(mode)

    with pytest.raises((requests.ConnectionError, requests.ReadTimeout)):
        send(customer, timeout=0.5 if mode in ("hang=1", "delay=1m") else 20)
    wait_until(lambda: outcomes(customer) == [(outcome, booked)], 10, "the record")


def test_a_status_applies_to_the_first_requests_of_a_key(customer: HostileCustomer) -> None:
    customer.set_mode("status=429&retry_after=7&fail_first=2")

    for key in ("a", "b"):
        answers = [send(customer, key) for _ in range(3)]
        assert [(answer.status_code, answer.headers.get("Retry-After")) for answer in answers] == [
            *[(429, "7")] * 2,
            (200, None),
        ]


@pytest.mark.parametrize("mode", ["stauts=503", "status=ok", "reset=2", "drip=1", "delay=2", "reset=1&close=1"])
def test_an_unknown_mode_is_refused(customer: HostileCustomer, mode: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        customer.set_mode(mode)


def random_outcomes(seed: int) -> list[tuple[str, bool]]:
    with HostileCustomer(fail_rate=0.5, seed=seed) as customer:
        for key in range(40):
            try:
                send(customer, str(key))
            except requests.ConnectionError:
                continue
        return outcomes(customer)


def test_random_failures_repeat_with_the_seed() -> None:
    first = random_outcomes(7)

    assert {outcome for outcome, _ in first} == {"accepted", "status 503", "status 429", "reset", "reset after booking"}
    assert first == random_outcomes(7)


def test_stop_cuts_open_requests_and_start_uses_the_same_port(customer: HostileCustomer) -> None:
    customer.set_mode("hang=1")
    errors = []

    def hang() -> None:
        try:
            send(customer, timeout=600)
        except requests.ConnectionError as error:
            errors.append(error)

    sender = threading.Thread(target=hang)
    sender.start()
    wait_until(lambda: customer.requests, 10, "the request")
    url = customer.url
    customer.stop()
    sender.join(60)

    assert len(errors) == 1
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((customer.host, customer.port))
    customer.start()
    customer.set_mode("")
    assert customer.url == url
    assert send(customer, "b").status_code == 200
