"""Checks of the mapping file, and of the address of the customer up to the connection."""

import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stats.monitoring.checks import customer
from stats.monitoring.checks.result import Verdict
from tests.stats.monitoring.checks.results import only_result

OK, WARNING, FAILURE = Verdict.OK, Verdict.WARNING, Verdict.FAILURE


def test_the_mapping_file_is_identified_by_its_hash() -> None:
    result = only_result(customer.mapping)

    assert (result.verdict, result.facts["attributes"]) == (OK, 13)
    assert result.facts["sha256"] == "17021452c713d3df7ae4cedbf5e00195b5b71bc25d105c4dc679c8ba50d320ee"


def test_an_error_in_the_mapping_file_is_named(settings: Any, tmp_path: Path) -> None:
    settings.ATTRIBUTE_MAPPING_FILE = tmp_path / "mapping.json"
    settings.ATTRIBUTE_MAPPING_FILE.write_text('{"solar_area": {"attribute_type": "area"}}')

    result = only_result(customer.mapping)

    assert result.verdict is FAILURE
    assert "solar_area" in result.facts["error"]


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://customer.example.com/lead/SECRET_PATH", OK),
        ("http://customer.example.com/lead/SECRET_PATH", WARNING),
        ("http://127.0.0.1:8081/lead/SECRET_PATH", OK),
        ("https://customer.example.com/SECRET_PATH/USER_ID/", WARNING),
        ("ftp://customer.example.com/SECRET_PATH", FAILURE),
        ("https://user:SECRET_PATH@customer.example.com/", FAILURE),
    ],
)
def test_the_url_is_checked_and_its_path_not_shown(settings: Any, url: str, verdict: Verdict) -> None:
    settings.CUSTOMER_API_URL = url

    result = only_result(customer.address)

    assert result.verdict is verdict
    assert "SECRET_PATH" not in str(result)


def test_the_check_connects_and_sends_nothing(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/lead"
        result = only_result(customer.connection)
        peer, _ = listener.accept()
        with closing(peer):
            assert peer.recv(100) == b""

    assert result.verdict is OK


@pytest.mark.parametrize(
    ("url", "codes"),
    [
        ("http://127.0.0.1:1/lead", ["no_connection"]),
        ("https://customer.invalid/lead", ["host_not_found"]),
        ("https://customer.invalid/lead/USER_ID/", []),  # the placeholder is not connected to
    ],
)
def test_an_unreachable_customer_is_a_failure(settings: Any, url: str, codes: list[str]) -> None:
    settings.CUSTOMER_API_URL = url

    results = list(customer.connection())

    assert [(result.verdict, result.facts["code"]) for result in results] == [(FAILURE, code) for code in codes]


def test_a_customer_without_tls_is_a_failure(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings.CUSTOMER_API_URL = f"https://127.0.0.1:{listener.getsockname()[1]}/lead"
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        result = only_result(customer.connection)
        thread.join()

    assert result.verdict is FAILURE


@pytest.mark.parametrize(("token", "verdict"), [("s3cret-word", OK), ("FakeCustomerToken", WARNING), ("", WARNING)])
def test_a_placeholder_instead_of_a_token_is_a_warning(settings: Any, token: str, verdict: Verdict) -> None:
    settings.CUSTOMER_API_TOKEN = token

    result = only_result(customer.token)

    assert result.verdict is verdict
    assert "s3cret-word" not in str(result)
