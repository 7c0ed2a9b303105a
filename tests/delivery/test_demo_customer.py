import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import phonenumbers
import pytest
import requests

from delivery import demo_customer
from delivery.demo_customer import PHONE_MODES, PHONE_PREFIX, DemoCustomer, Mode, parse_mode, phone_mode

ROOT = Path(__file__).resolve().parents[2]
LEAD = {
    "phone": "+49123456789",
    "product": {"name": "solar_panel_installation"},
    "attributes": [{"name": "solar_offer_type", "value": "Kaufen"}],
}
RECORD_FIELDS = {
    "time",
    "idempotency_key",
    "correlation_id",
    "phone",
    "product",
    "outcome",
    "booked",
    "duplicate",
    "id",
    "payload",
}


@pytest.fixture
def customer() -> Iterator[DemoCustomer]:
    with DemoCustomer() as running:
        yield running


def send(url: str, key: str | None = "lead-1", *, lead: Any = LEAD, timeout: float = 5, **more: Any) -> Any:
    """Post a lead on a connection of its own, as a client that follows no redirect."""
    headers = {"Connection": "close", **({"Idempotency-Key": key} if key else {}), **more.pop("headers", {})}
    return requests.post(url, json=lead, headers=headers, timeout=timeout, allow_redirects=False, **more)


def send_by_phone(customer: DemoCustomer, suffix: str, **more: Any) -> Any:
    return send(customer.url, lead={**LEAD, "phone": PHONE_PREFIX + suffix}, **more)


def outcomes(customer: DemoCustomer) -> list[str]:
    return [record["outcome"] for record in customer.requests]


def booked(customer: DemoCustomer) -> int:
    return sum(record["booked"] for record in customer.requests)


def raw_exchange(customer: DemoCustomer, data: bytes) -> bytes:
    """Send bytes, close our half, and return everything the customer sent until it closed."""
    with socket.create_connection((customer.host, customer.port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def as_http(path: str = "/", *, method: str = "POST", lead: Any = LEAD) -> bytes:
    body = json.dumps(lead).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: customer\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# --- Accepting and refusing ---------------------------------------------------------------------------------------


def test_a_lead_is_accepted_on_any_path_and_booked(customer: DemoCustomer) -> None:
    first = send(f"{customer.url}/lead/receive/fake/USER_ID/", "a")
    second = send(customer.url, "b")

    assert (first.status_code, first.json()) == (200, {"status": "accepted", "id": "1"})
    assert second.json() == {"status": "accepted", "id": "2"}
    assert first.headers["Content-Type"] == "application/json"
    assert outcomes(customer) == ["accepted", "accepted"]
    assert booked(customer) == 2


def test_a_record_says_what_was_received_when_and_for_whom(customer: DemoCustomer) -> None:
    send(customer.url, "a", headers={"X-Correlation-ID": "c-1", "Authorization": "Bearer secret"})

    (record,) = customer.requests
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    assert record == {
        "time": record["time"],
        "idempotency_key": "a",
        "correlation_id": "c-1",
        "phone": "+49123456789",
        "product": "solar_panel_installation",
        "outcome": "accepted",
        "booked": True,
        "duplicate": False,
        "id": "1",
        "payload": LEAD,
    }


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Bearer secret2", "secret", "Basic secret", "Bearer sécret"]
)
def test_a_wrong_bearer_is_a_401_and_books_nothing(authorization: str | None) -> None:
    headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
    with DemoCustomer(token="secret") as customer:
        answer = send(customer.url, headers=headers)

        assert (answer.status_code, answer.json()) == (401, {"error": "unauthorized"})
        assert outcomes(customer) == ["status 401"]
        assert booked(customer) == 0


def test_the_right_bearer_is_accepted() -> None:
    with DemoCustomer(token="secret") as customer:
        assert send(customer.url, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert booked(customer) == 1


@pytest.mark.parametrize(
    "body", [b"", b"phone=1", b"{", b'{"phone": NaN}', b"\xff\xfe", b"[" * 100_000], ids=lambda b: repr(b[:16])
)
def test_a_body_that_is_not_json_is_a_400_and_books_nothing(customer: DemoCustomer, body: bytes) -> None:
    answer = requests.post(customer.url, data=body, headers={"Content-Length": str(len(body))}, timeout=5)

    assert (answer.status_code, answer.json()) == (400, {"error": "the body is not JSON"})
    assert outcomes(customer) == ["status 400"]
    assert customer.requests[0]["payload"] is None
    assert booked(customer) == 0


PRODUCT = {"name": "solar"}


@pytest.mark.parametrize(
    ("lead", "fields"),
    [
        ({"product": PRODUCT}, {"phone"}),
        ({"phone": "", "product": PRODUCT}, {"phone"}),
        ({"phone": 49123, "product": PRODUCT}, {"phone"}),
        ({"phone": "+491"}, {"product.name"}),
        ({"phone": "+491", "product": "solar"}, {"product.name"}),
        ({"phone": "+491", "product": {"name": None}}, {"product.name"}),
        ({"phone": "+491", "product": PRODUCT, "attributes": {}}, {"attributes"}),
        ({}, {"phone", "product.name"}),
        ([LEAD], {"phone", "product.name"}),
        (None, {"phone", "product.name"}),
    ],
)
def test_a_missing_field_is_a_422_that_names_it(customer: DemoCustomer, lead: Any, fields: set[str]) -> None:
    answer = requests.post(customer.url, data=json.dumps(lead), timeout=5)

    assert answer.status_code == 422
    assert set(answer.json()["errors"]) == fields
    assert outcomes(customer) == ["status 422"]
    assert booked(customer) == 0


def test_text_no_encoding_can_hold_is_still_written_to_the_ledger(tmp_path: Path) -> None:
    with DemoCustomer(ledger=tmp_path / "ledger") as customer:
        body = b'{"phone": "\\ud800\\u0000", "product": {"name": "\xc3\xbc"}}'
        assert requests.post(customer.url, data=body, timeout=5).status_code == 200
        assert requests.get(f"{customer.url}/_ledger", timeout=5).json() == customer.requests

    assert DemoCustomer(ledger=tmp_path / "ledger").requests[0]["phone"] == "\ud800\0"


@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (b"POST / HTTP/1.1\r\nHost: c\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 99999999\r\n\r\n", b"HTTP/1.1 413 "),
        (b"DELETE / HTTP/1.1\r\nHost: c\r\n\r\n", b"HTTP/1.1 501 "),
        (b"nonsense\r\n\r\n", b"Bad request syntax"),
    ],
)
def test_a_request_that_carries_no_lead_is_refused_and_not_in_the_ledger(
    customer: DemoCustomer, head: bytes, refusal: bytes
) -> None:
    assert refusal in raw_exchange(customer, head)
    assert customer.requests == []


def test_a_body_cut_short_was_not_received(customer: DemoCustomer) -> None:
    assert raw_exchange(customer, as_http()[:-10]) == b""
    assert customer.requests == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/redirected"), ("PUT", "/leads"), ("POST", "/_ledger")]
)
def test_a_wrong_method_is_a_405_and_books_nothing(customer: DemoCustomer, method: str, path: str) -> None:
    answer = requests.request(method, customer.url + path, json=LEAD, timeout=5)

    assert answer.status_code == 405
    assert "error" in answer.json()
    assert answer.headers["Allow"]
    assert customer.requests == []


def test_a_connection_is_kept_for_the_next_request(customer: DemoCustomer) -> None:
    with socket.create_connection((customer.host, customer.port), timeout=5) as connection:
        for number in (b"1", b"2"):
            connection.sendall(as_http().replace(b"Connection: close\r\n", b""))
            answer = connection.recv(4096)
            assert b'"id": "' + number + b'"' in answer
            assert b"Connection" not in answer
    assert b"\r\nConnection: close\r\n" in raw_exchange(customer, as_http())


# --- Idempotency --------------------------------------------------------------------------------------------------


def test_a_key_booked_before_gets_the_same_answer_and_is_not_booked_again(customer: DemoCustomer) -> None:
    send(customer.url, "other")
    first = send(customer.url, "a").json()
    again = send(customer.url, "a").json()

    assert again == {**first, "duplicate": True}
    assert outcomes(customer) == ["accepted", "accepted", "duplicate"]
    assert [record["booked"] for record in customer.requests] == [True, True, False]
    assert customer.requests[2]["id"] == first["id"] == "2"


def test_without_a_key_every_request_is_booked(customer: DemoCustomer) -> None:
    send(customer.url, None)
    send(customer.url, None)

    assert outcomes(customer) == ["accepted", "accepted"]
    assert customer.summary()["keys_booked"] == 0


def test_a_failed_request_does_not_make_its_key_known(customer: DemoCustomer) -> None:
    send(f"{customer.url}?status=503", "a")

    assert send(customer.url, "a").json() == {"status": "accepted", "id": "1"}
    assert send(customer.url, "b").json() == {"status": "accepted", "id": "2"}
    assert [record["booked"] for record in customer.requests] == [False, True, True]


def test_one_key_sent_by_many_at_once_is_booked_once(tmp_path: Path) -> None:
    keys = [str(number // 10) for number in range(200)]
    with DemoCustomer(ledger=tmp_path / "ledger") as customer, ThreadPoolExecutor(10) as senders:
        answers = list(senders.map(lambda key: send(customer.url, key).json(), keys))

    assert sorted(int(answer["id"]) for answer in answers) == sorted(list(range(1, 21)) * 10)
    assert sum("duplicate" not in answer for answer in answers) == 20
    assert customer.summary() == {
        "requests": 200,
        "booked": 20,
        "duplicate_receipts": 180,
        "keys_booked": 20,
        "outcomes": {"accepted": 20, "duplicate": 180},
    }


# --- Modes by query string ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 400, 404, 409, 429, 500, 503, 599])
def test_a_status_is_answered_as_asked_and_books_nothing(customer: DemoCustomer, status: int) -> None:
    answer = send(f"{customer.url}/x?status={status}")

    assert answer.status_code == status
    assert "error" in answer.json()
    assert "Retry-After" not in answer.headers
    assert outcomes(customer) == [f"status {status}"]
    assert booked(customer) == 0


@pytest.mark.parametrize("status", [201, 202, 204])
def test_a_status_of_success_books_the_lead(customer: DemoCustomer, status: int) -> None:
    answer = send(f"{customer.url}?status={status}")

    assert answer.status_code == status
    assert (answer.content == b"") == (status == 204)
    assert outcomes(customer) == ["accepted"]
    assert booked(customer) == 1


def test_retry_after_is_sent_with_the_status(customer: DemoCustomer) -> None:
    answer = send(f"{customer.url}?status=429&retry_after=7")

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert booked(customer) == 0


def test_a_delay_comes_before_the_answer_and_after_the_booking(customer: DemoCustomer) -> None:
    with pytest.raises(requests.ReadTimeout):
        send(f"{customer.url}?delay=10s", timeout=0.3)
    assert (outcomes(customer), booked(customer)) == (["accepted"], 1)

    began = time.monotonic()
    assert send(f"{customer.url}?delay=300ms", "b").status_code == 200
    assert 0.3 <= time.monotonic() - began < 2


def test_the_delay_of_the_customer_itself_is_added() -> None:
    with DemoCustomer(delay=0.2) as customer:
        began = time.monotonic()
        send(f"{customer.url}?delay=200ms")
        assert 0.4 <= time.monotonic() - began < 2


@pytest.mark.parametrize(("value", "outcome", "bookings"), [("1", "reset", 0), ("after", "reset after booking", 1)])
def test_a_reset_is_a_tcp_reset_before_or_after_the_booking(
    customer: DemoCustomer, value: str, outcome: str, bookings: int
) -> None:
    with socket.create_connection((customer.host, customer.port), timeout=5) as connection:
        connection.sendall(as_http(f"/?reset={value}"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    assert (outcomes(customer), booked(customer)) == ([outcome], bookings)


def test_after_a_reset_with_booking_the_retry_is_a_duplicate(customer: DemoCustomer) -> None:
    with pytest.raises(requests.ConnectionError):
        send(f"{customer.url}?reset=after", "a")

    assert send(customer.url, "a").json() == {"status": "accepted", "id": "1", "duplicate": True}
    assert booked(customer) == 1


def test_a_dripped_answer_comes_byte_by_byte(customer: DemoCustomer) -> None:
    with socket.create_connection((customer.host, customer.port), timeout=5) as connection:
        connection.sendall(as_http("/?drip=5ms"))
        chunks = list(iter(lambda: connection.recv(4096), b""))

    assert len(chunks) > 50
    assert b"".join(chunks).endswith(b'{"status": "accepted", "id": "1"}\n')
    assert (outcomes(customer), booked(customer)) == (["drip"], 1)


def test_a_drip_defeats_a_read_timeout_and_stops_with_the_customer(customer: DemoCustomer) -> None:
    with socket.create_connection((customer.host, customer.port), timeout=5) as connection:
        connection.sendall(as_http("/?drip=1"))
        began = time.monotonic()
        received = [connection.recv(4096) for _ in range(3)]
        assert b"".join(received) == b"HTT"
        assert 0.9 <= time.monotonic() - began < 3
        customer.stop()
        assert len(b"".join(iter(lambda: connection.recv(4096), b""))) <= 1


def test_close_ends_the_connection_without_an_answer(customer: DemoCustomer) -> None:
    assert raw_exchange(customer, as_http("/?close=1")) == b""
    assert (outcomes(customer), booked(customer)) == (["close"], 0)


def test_hang_never_answers(customer: DemoCustomer) -> None:
    with pytest.raises(requests.ReadTimeout):
        send(f"{customer.url}?hang=1", timeout=0.5)
    assert (outcomes(customer), booked(customer)) == (["hang"], 0)


def test_a_redirect_books_only_for_who_follows_it(customer: DemoCustomer) -> None:
    answer = send(f"{customer.url}/leads?redirect=1")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/redirected")
    assert (outcomes(customer), booked(customer)) == (["redirect"], 0)

    assert requests.post(f"{customer.url}/leads?redirect=1", json=LEAD, timeout=5).status_code == 200
    assert booked(customer) == 1


def test_garbage_is_not_http(customer: DemoCustomer) -> None:
    answer = raw_exchange(customer, as_http("/?garbage=1"))
    assert answer
    assert not answer.startswith(b"HTTP/")
    with pytest.raises(requests.ConnectionError):
        send(f"{customer.url}?garbage=1", "a")
    assert (outcomes(customer), booked(customer)) == (["garbage", "garbage"], 0)


def test_a_garbage_body_is_a_200_that_booked(customer: DemoCustomer) -> None:
    answer = send(f"{customer.url}?garbage=body")

    assert answer.status_code == 200
    assert b"\0" in answer.content
    with pytest.raises(UnicodeDecodeError):
        answer.content.decode()
    assert (outcomes(customer), booked(customer)) == (["garbage body"], 1)


@pytest.mark.parametrize(
    ("query", "statuses"), [("fail_first=2", [503, 503, 200, 200]), ("fail_first=1&status=429", [429, 200, 200, 200])]
)
def test_fail_first_fails_the_first_requests_of_each_key(
    customer: DemoCustomer, query: str, statuses: list[int]
) -> None:
    for key in ("a", "b"):
        assert [send(f"{customer.url}?{query}", key).status_code for _ in statuses] == statuses

    assert customer.summary()["keys_booked"] == booked(customer) == 2


def test_fail_first_works_with_every_failure(customer: DemoCustomer) -> None:
    with pytest.raises(requests.ConnectionError):
        send(f"{customer.url}?fail_first=1&reset=1")
    assert send(f"{customer.url}?fail_first=1&reset=1").status_code == 200
    assert outcomes(customer) == ["reset", "accepted"]


def test_after_the_first_failures_the_delay_is_what_is_left() -> None:
    mode = parse_mode("fail_first=1&status=500&delay=1m30s500ms")

    assert (mode.on_request(1).status, mode.on_request(1).delay) == (500, 90.5)
    assert mode.on_request(2) == Mode(delay=90.5)


@pytest.mark.parametrize(
    "query",
    [
        "stauts=503",
        "status=99",
        "status=600",
        "status=ok",
        "status=",
        "retry_after=-1",
        "retry_after=1.5",
        "delay=2",
        "delay=2 s",
        "reset=2",
        "drip=slow",
        "close=0",
        "redirect=yes",
        "garbage=",
        "hang=",
        "fail_first=x",
        "reset=1&close=1",
        "status=503&reset=1",
    ],
)
def test_a_mode_nobody_knows_is_a_400_and_books_nothing(customer: DemoCustomer, query: str) -> None:
    answer = send(f"{customer.url}?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (outcomes(customer), booked(customer)) == (["status 400"], 0)
    with pytest.raises(ValueError, match=r"\w"):
        customer.set_mode(query)
    assert customer.mode == ""


# --- Modes by telephone number ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*PHONE_MODES, "000", "999", *map(str, range(400, 600))])
def test_every_number_of_the_table_survives_normalization(suffix: str) -> None:
    number = phonenumbers.parse(PHONE_PREFIX + suffix, "DE")

    assert phonenumbers.is_possible_number(number)
    assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == PHONE_PREFIX + suffix


@pytest.mark.parametrize("typed", ["030 9999503", "0049 30 9999 503", "+49 (0)30 / 9999-503"])
def test_a_number_of_the_table_may_be_typed_as_people_do(typed: str) -> None:
    number = phonenumbers.parse(typed, "DE")

    assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == PHONE_PREFIX + "503"


@pytest.mark.parametrize("suffix", ["400", "404", "422", "429", "500", "503", "599"])
def test_a_number_ending_in_a_status_gets_it_always(customer: DemoCustomer, suffix: str) -> None:
    assert [send_by_phone(customer, suffix).status_code for _ in range(3)] == [int(suffix)] * 3
    assert booked(customer) == 0


@pytest.mark.parametrize(
    "phone", [None, "", "+49123456789", "+49309999000", "+49309999008", "+49309999200", "+49309999600", "+493099995030"]
)
def test_any_other_number_asks_for_nothing(phone: str | None) -> None:
    assert phone_mode(phone) == ""


def test_number_001_is_answered_late(customer: DemoCustomer) -> None:
    began = time.monotonic()
    assert send_by_phone(customer, "001").status_code == 200
    assert time.monotonic() - began >= 2


def test_number_002_is_reset_always_and_never_booked(customer: DemoCustomer) -> None:
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            send_by_phone(customer, "002")
    assert (outcomes(customer), booked(customer)) == (["reset"] * 3, 0)


def test_number_003_is_booked_then_reset_and_recognised_on_the_retry(customer: DemoCustomer) -> None:
    with pytest.raises(requests.ConnectionError):
        send_by_phone(customer, "003")
    assert send_by_phone(customer, "003").json()["duplicate"] is True
    assert (outcomes(customer), booked(customer)) == (["reset after booking", "duplicate"], 1)


@pytest.mark.parametrize(("suffix", "outcome", "bookings"), [("004", "drip", 1), ("005", "hang", 0)])
def test_numbers_004_and_005_outlast_the_sender(
    customer: DemoCustomer, suffix: str, outcome: str, bookings: int
) -> None:
    with pytest.raises(requests.Timeout):
        send_by_phone(customer, suffix, timeout=0.3)
    assert (outcomes(customer), booked(customer)) == ([outcome], bookings)


def test_number_006_fails_twice_then_is_accepted(customer: DemoCustomer) -> None:
    assert [send_by_phone(customer, "006").status_code for _ in range(3)] == [503, 503, 200]
    assert booked(customer) == 1


def test_number_007_is_told_to_wait_once_then_accepted(customer: DemoCustomer) -> None:
    first, second = send_by_phone(customer, "007"), send_by_phone(customer, "007")

    assert (first.status_code, first.headers["Retry-After"]) == (429, "5")
    assert (second.status_code, booked(customer)) == (200, 1)


def test_the_documentation_names_every_number_and_every_mode() -> None:
    text = demo_customer.__doc__ or ""

    for suffix in PHONE_MODES:
        assert f"{PHONE_PREFIX}{suffix} " in text
    for example in re.findall(r"^    (\w+=\w+)  ", text, flags=re.MULTILINE):
        assert parse_mode(example) != Mode()
    assert set(re.findall(r"^    (\w+)=\w+  ", text, flags=re.MULTILINE)) == set(demo_customer._READERS)


# --- Control, precedence, chance ----------------------------------------------------------------------------------


def control(customer: DemoCustomer, body: bytes) -> Any:
    return requests.put(f"{customer.url}/_control", data=body, timeout=5)


def test_the_customer_is_taken_down_and_brought_back_over_http(customer: DemoCustomer) -> None:
    assert control(customer, b'{"mode": "status=503&retry_after=1"}').json() == {"mode": "status=503&retry_after=1"}
    assert send(customer.url).status_code == 503
    assert requests.get(f"{customer.url}/_control", timeout=5).json() == {"mode": "status=503&retry_after=1"}

    assert control(customer, b'{"mode": ""}').status_code == 200
    assert send(customer.url).status_code == 200
    assert outcomes(customer) == ["status 503", "accepted"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"mode": 1}', b'{"mode": "x=1"}', b'{"mode": "status=1"}'])
def test_a_bad_control_is_a_400_and_changes_nothing(customer: DemoCustomer, body: bytes) -> None:
    customer.set_mode("status=500")

    answer = requests.put(f"{customer.url}/_control", data=body, headers={"Content-Length": str(len(body))}, timeout=5)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert customer.mode == "status=500"


def test_control_goes_before_the_query_and_the_query_before_the_number(customer: DemoCustomer) -> None:
    lead = {**LEAD, "phone": PHONE_PREFIX + "404"}
    assert send(customer.url, lead=lead).status_code == 404
    assert send(f"{customer.url}?status=500", lead=lead).status_code == 500
    customer.set_mode("status=503")
    assert send(f"{customer.url}?status=500", lead=lead).status_code == 503


def fates(seed: int, number: int = 60) -> list[str]:
    with DemoCustomer(fail_rate=0.5, seed=seed) as customer, requests.Session() as session:
        for key in range(number):
            try:
                session.post(customer.url, json=LEAD, headers={"Idempotency-Key": str(key)}, timeout=5)
            except requests.ConnectionError:
                continue
        return outcomes(customer)


def test_random_failures_come_at_their_rate_in_every_kind_and_repeat_with_the_seed() -> None:
    first = fates(seed=7)

    assert set(first) == {"accepted", "status 503", "status 429", "reset", "reset after booking"}
    assert 15 <= first.count("accepted") <= 45
    assert first == fates(seed=7)
    assert first != fates(seed=8)


def test_random_failures_at_rate_one_spare_nobody_and_at_rate_zero_hit_nobody() -> None:
    with DemoCustomer(fail_rate=1.0, seed=1) as always:
        for key in range(10):
            try:
                assert send(always.url, str(key)).status_code in (429, 503)
            except requests.ConnectionError:
                continue
        assert "accepted" not in outcomes(always)
        assert len(always.requests) == 10
    with DemoCustomer(seed=1) as never:
        assert {send(never.url, str(key)).status_code for key in range(10)} == {200}


def test_random_failures_are_of_the_kinds_that_are_named() -> None:
    with DemoCustomer(fail_rate=1.0, failures=["status=500", "status=502"], seed=1) as customer:
        assert {send(customer.url, str(key)).status_code for key in range(20)} == {500, 502}

    with pytest.raises(ValueError, match="unknown mode"):
        DemoCustomer(failures=["status=500", "explode=1"])


# --- Ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_is_served_whole_and_counted(customer: DemoCustomer) -> None:
    send(customer.url, "a")
    send(customer.url, "a")
    send(f"{customer.url}?status=503", "b")
    with pytest.raises(requests.ConnectionError):
        send(f"{customer.url}?reset=after", "c")

    assert requests.get(f"{customer.url}/_ledger", timeout=5).json() == customer.requests
    assert requests.get(f"{customer.url}/_ledger?summary=1", timeout=5).json() == {
        "requests": 4,
        "booked": 2,
        "duplicate_receipts": 1,
        "keys_booked": 2,
        "outcomes": {"accepted": 1, "duplicate": 1, "status 503": 1, "reset after booking": 1},
    }


def test_the_ledger_is_in_the_file_before_the_answer_is_out(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with DemoCustomer(ledger=file) as customer:
        with pytest.raises(requests.ReadTimeout):
            send(f"{customer.url}?delay=10s", "a", timeout=0.3)
        send(customer.url, "b")
        lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert [line["idempotency_key"] for line in lines] == ["a", "b"]
    assert all(set(line) == RECORD_FIELDS for line in lines)


def test_a_customer_reads_its_ledger_back(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with DemoCustomer(ledger=file) as customer:
        send(customer.url, "a")
        send(f"{customer.url}?fail_first=2", "b")
        before = customer.requests

    with DemoCustomer(ledger=file) as customer:
        assert customer.requests == before
        assert send(customer.url, "a").json() == {"status": "accepted", "id": "1", "duplicate": True}
        assert [send(f"{customer.url}?fail_first=2", "b").status_code for _ in range(2)] == [503, 200]
        assert customer.requests[-1]["id"] == "2"
        assert len(file.read_text().splitlines()) == 5


def test_a_record_cut_off_by_a_crash_is_dropped_and_the_next_starts_on_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with DemoCustomer(ledger=file) as customer:
        send(customer.url, "a")
    with file.open("a") as torn:
        torn.write('{"time": "2026-01-21T10:30')

    with DemoCustomer(ledger=file) as customer:
        send(customer.url, "b")

    assert [json.loads(line)["idempotency_key"] for line in file.read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize("line", ["not json", "[]", "{}", "7"])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text(f"{line}\n")

    with pytest.raises(ValueError, match="line 1"):
        DemoCustomer(ledger=file)
    assert file.read_text() == f"{line}\n"


def test_a_ledger_that_cannot_be_written_is_noticed_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DemoCustomer(ledger=tmp_path / "missing" / "ledger.jsonl")


# --- Start and stop -----------------------------------------------------------------------------------------------


def test_stopping_cuts_open_requests_and_starting_takes_the_same_port_again() -> None:
    customer = DemoCustomer().start()
    url, errors = customer.url, []

    def wait_forever(query: str) -> None:
        try:
            send(f"{customer.url}?{query}", query, timeout=30)
        except requests.ConnectionError as error:
            errors.append(error)

    senders = [threading.Thread(target=wait_forever, args=(query,)) for query in ("hang=1", "delay=1m", "drip=1m")]
    for sender in senders:
        sender.start()
    wait_until(lambda: len(customer.requests) == 3)

    began = time.monotonic()
    customer.stop()
    for sender in senders:
        sender.join(5)
    assert time.monotonic() - began < 4  # not after their 30 s
    assert len(errors) == 3
    with pytest.raises(requests.ConnectionError):
        send(url)

    with customer:
        assert customer.url == url
        assert send(url, "after").status_code == 200
        assert len(customer.requests) == 4


def test_a_taken_port_is_an_error(customer: DemoCustomer) -> None:
    with pytest.raises(OSError, match="in use"):
        DemoCustomer(port=customer.port).start()


def test_the_line_per_request_has_no_more_of_the_number_than_three_digits() -> None:
    lines: list[str] = []
    with DemoCustomer(announce=lines.append) as customer:
        send(customer.url)
        send(customer.url)
        send(customer.url, "b", lead={})

    assert [line.split(" ", 1)[1] for line in lines] == ["***789 accepted #1", "***789 duplicate #1", "*** status 422"]


# --- The command --------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def running_command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run the command on a free port; yield the process, its URL and its first line."""
    command = [sys.executable, "manage.py", "fake_customer_api", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, f"no URL in the first line: {line!r}"
            yield process, found[0], line
        finally:
            process.kill()


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_command_at_once_with_exit_code_zero(number: signal.Signals) -> None:
    with running_command() as (process, url, _):
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as hanging:
            hanging.sendall(as_http("/?hang=1"))
            wait_until(lambda: len(requests.get(f"{url}/_ledger", timeout=5).json()) == 1)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(5) == 0
            assert time.monotonic() - began < 2
            assert hanging.recv(1) == b""


def test_the_command_shows_each_lead_as_it_arrives() -> None:
    with running_command("--token", "secret") as (process, url, first_line):
        assert "secret" not in first_line
        send(url)
        send(url, headers={"Authorization": "Bearer secret"})
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]

    assert [line.split(" ", 1)[1] for line in lines] == ["***789 status 401\n", "***789 accepted #1\n"]


def test_a_killed_customer_still_knows_what_it_booked(tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    with running_command("--ledger", ledger) as (process, url, _):
        send(url, "a")
        with pytest.raises(requests.ReadTimeout):
            send(f"{url}?delay=1m", "b", timeout=0.3)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(5) == -signal.SIGKILL

    with running_command("--ledger", ledger) as (_, url, _):
        assert send(url, "a").json() == {"status": "accepted", "id": "1", "duplicate": True}
        assert send(url, "b").json() == {"status": "accepted", "id": "2", "duplicate": True}
        assert send(url, "c").json() == {"status": "accepted", "id": "3"}
        summary = requests.get(f"{url}/_ledger?summary=1", timeout=5).json()
        assert (summary["requests"], summary["booked"], summary["duplicate_receipts"]) == (5, 3, 2)


def test_a_chaos_run_prints_its_seed_and_repeats_with_it() -> None:
    def run(*arguments: str) -> tuple[str, list[str]]:
        with running_command("--fail-rate", "0.5", *arguments) as (_, url, line):
            for key in range(30):
                try:
                    send(url, str(key))
                except requests.ConnectionError:
                    continue
            ledger = requests.get(f"{url}/_ledger", timeout=5).json()
        return re.findall(r"seed (\d+)", line)[0], [record["outcome"] for record in ledger]

    seed, first = run()
    assert len(set(first)) > 1
    assert run("--seed", seed) == (seed, first)


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "fake_customer_api", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_help_shows_the_tables_line_by_line() -> None:
    shown = run_command("--help").stdout

    assert all(line in shown for line in (demo_customer.__doc__ or "").splitlines())


@pytest.mark.parametrize(
    "arguments", [("--fail-rate", "1.5"), ("--fail-rate", "x"), ("--delay", "50"), ("--ledger", "/no/such/place/l")]
)
def test_a_bad_option_stops_the_command_with_its_value(arguments: tuple[str, str]) -> None:
    finished = run_command("--port", "0", *arguments)

    assert finished.returncode != 0
    assert arguments[1] in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


def test_a_taken_port_stops_the_command_with_a_sentence(customer: DemoCustomer) -> None:
    finished = run_command("--port", str(customer.port))

    assert finished.returncode == 1
    assert "in use" in finished.stderr
    assert "Traceback" not in finished.stderr
