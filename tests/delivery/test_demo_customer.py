import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import phonenumbers
import pytest
import requests

from delivery import demo_customer
from delivery.demo_customer import BEHAVIORS, PHONE_PREFIX, DemoCustomer
from tests.environment import ROOT

LEAD = {"phone": "+49123456789", "product": {"name": "solar_panel_installation"}, "attributes": []}
COMMAND = [sys.executable, "manage.py", "fake_customer_api"]


class RunningCustomer:
    """The demo customer in a thread, and the lines that it logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.server = DemoCustomer(log=self.lines.append)

    def send(self, key: str | None = "lead-1", **changes: Any) -> requests.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return requests.post(self.server.url, json=LEAD | changes, headers=headers, timeout=20)


@pytest.fixture
def customer() -> Iterator[RunningCustomer]:
    running = RunningCustomer()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


def test_each_key_is_accepted_once(customer: RunningCustomer) -> None:
    first = requests.post(f"{customer.server.url}/lead/receive/", json=LEAD, timeout=20)
    keys = ("a", "a", "b", None, None)

    assert (first.status_code, first.json()) == (200, {"status": "accepted", "id": "1"})
    assert first.headers["Content-Type"] == "application/json"
    assert [customer.send(key).json() for key in keys] == [
        {"status": "accepted", "id": "2"},
        {"status": "accepted", "id": "2", "duplicate": True},
        *({"status": "accepted", "id": number} for number in "345"),
    ]


@pytest.mark.parametrize("body", [b"", b"phone=1", b"[]", b"\xff\xfe", b"[" * 100_000], ids=lambda body: repr(body[:9]))
def test_a_body_that_is_not_a_json_object_is_a_400(customer: RunningCustomer, body: bytes) -> None:
    headers = {"Content-Length": str(len(body))}

    assert requests.post(customer.server.url, data=body, headers=headers, timeout=20).status_code == 400


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"phone": ""}, {"phone"}),
        ({"phone": 49123}, {"phone"}),
        ({"product": "solar"}, {"product.name"}),
        ({"phone": None, "product": {"name": None}}, {"phone", "product.name"}),
    ],
)
def test_a_missing_field_is_a_422_that_names_it(
    customer: RunningCustomer, changes: dict[str, Any], fields: set[str]
) -> None:
    answer = customer.send(**changes)

    assert answer.status_code == 422
    assert set(answer.json()["errors"]) == fields


@pytest.mark.parametrize("head", [b"", b"Content-Length: x\r\n", b"Content-Length: 99999999\r\n"])
def test_a_request_without_a_usable_length_is_refused(customer: RunningCustomer, head: bytes) -> None:
    with closing(socket.create_connection(customer.server.server_address[:2], timeout=20)) as connection:  # type: ignore[arg-type]
        connection.sendall(b"POST / HTTP/1.1\r\nHost: c\r\n" + head + b"\r\n")

        assert connection.recv(4096).startswith(b"HTTP/1.1 411 ")


def test_leads_are_sent_by_post(customer: RunningCustomer) -> None:
    answer = requests.get(customer.server.url, timeout=20)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_a_phone_number_selects_a_failure(customer: RunningCustomer) -> None:
    def statuses(key: str, number: int) -> list[int]:
        return [customer.send(key, phone=f"{PHONE_PREFIX}{number:03}").status_code for _ in range(3)]

    assert statuses("a", 400) == [400] * 3
    assert statuses("b", 599) == [599] * 3
    assert statuses("c", 6) == [503, 503, 200]
    assert customer.send("d", phone=f"{PHONE_PREFIX}007").headers["Retry-After"] == "5"
    assert statuses("d", 7) == [200] * 3


def test_a_phone_number_selects_a_delay(customer: RunningCustomer) -> None:
    assert customer.send(phone=f"{PHONE_PREFIX}001").elapsed.total_seconds() >= 2


@pytest.mark.parametrize("phone", [*BEHAVIORS, f"{PHONE_PREFIX}400", f"{PHONE_PREFIX}599"])
def test_a_special_phone_number_survives_normalization(phone: str) -> None:
    number = phonenumbers.parse(phone, "DE")

    assert phonenumbers.is_possible_number(number)
    assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == phone


def test_a_line_is_logged_for_each_lead_without_personal_data(customer: RunningCustomer) -> None:
    customer.send()
    customer.send()
    customer.send(phone=f"{PHONE_PREFIX}503")
    customer.send(phone=None)

    assert customer.lines == [
        "***789 accepted #1",
        "***789 duplicate #1",
        "***503 refused with 503",
        "*** refused with 422",
    ]


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_logs_leads_and_stops_on_a_signal() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen([*COMMAND, "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().split()[-1]
                requests.post(url, json=LEAD, timeout=20)
                assert process.stdout.readline() == "***789 accepted #1\n"
                process.send_signal(number)

                assert process.wait(60) == 0
            finally:
                process.kill()


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_help_keeps_the_tables_and_lists_every_special_phone_number() -> None:
    shown = run_command("--help").stdout

    assert all(line in shown for line in (demo_customer.__doc__ or "").splitlines())
    assert set(re.findall(r"\+49\d+(?= {2,})", shown)) == set(BEHAVIORS)


@pytest.mark.slow
def test_a_port_in_use_is_an_error_without_a_traceback(customer: RunningCustomer) -> None:
    finished = run_command("--port", customer.server.url.rpartition(":")[2])

    assert finished.returncode == 1
    assert "in use" in finished.stderr
    assert "Traceback" not in finished.stderr
