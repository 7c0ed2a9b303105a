"""`send_test_lead` against the real web application. A thread that runs the pipeline replaces the worker."""

import json
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from delivery.configuration import Configuration
from leads.models import InboundLead, LeadStatus
from tests.delivery.conftest import advance
from tests.hostile_customer import HostileCustomer
from tests.http_server import Answer, http_server
from tests.processes import free_port
from tests.web_server import WebServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(config: Configuration) -> Iterator[None]:
    """Process every received lead, as a worker does."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            for lead in InboundLead.objects.filter(claim_token=None, status=LeadStatus.RECEIVED):
                advance(lead.pk, config=config)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def send(url: str, *arguments: str) -> tuple[str, CommandError | None]:
    """Run the command; return its output and its error."""
    output = StringIO()
    try:
        call_command("send_test_lead", "--url", url, *arguments, stdout=output)
    except CommandError as error:
        return output.getvalue(), error
    return output.getvalue(), None


@pytest.mark.usefixtures("worker", "queued_leads")
def test_each_run_sends_a_new_lead_and_shows_its_events(web: WebServer, customer: HostileCustomer) -> None:
    for arguments in ([], ["--phone", "+4968112345"]):
        output, error = send(web.url, *arguments)

        assert error is None
        for step in ("-> 200", "Received", "RECEIVED -> READY", "attempt_no=1", "response_status=200"):
            assert step in output
        assert output.endswith("DELIVERED, as expected.\n")
    first, second = (lead.raw_payload for lead in InboundLead.objects.order_by("pk"))
    assert first["email"] != second["email"]
    assert (first["phone"], second["phone"]) == ("+49123456789", "+4968112345")
    assert len(customer.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["--zipcode", "12345"], "ZIP_NOT_66XXX"), (["--not-owner"], "NOT_HOMEOWNER")]
)
@pytest.mark.usefixtures("worker", "queued_leads")
def test_an_expected_rejection_is_a_success(
    web: WebServer, customer: HostileCustomer, arguments: list[str], reason: str
) -> None:
    output, error = send(web.url, *arguments)

    assert error is None
    assert f"REJECTED ({reason}), as expected." in output
    assert customer.requests == []


@pytest.mark.usefixtures("worker", "queued_leads")
def test_a_rejection_by_the_customer_is_an_error(web: WebServer, customer: HostileCustomer) -> None:
    customer.set_mode("status=422")

    output, error = send(web.url)

    assert "response_status=422, error=http_status(status=422)" in output
    assert str(error).startswith("PERMANENTLY_FAILED; expected DELIVERED.")


@pytest.mark.usefixtures("queued_leads")
def test_without_a_worker_the_wait_times_out(web: WebServer) -> None:
    output, error = send(web.url, "--wait", "500ms")

    assert "Waiting up to 0.5 s" in output
    assert str(error).startswith("RECEIVED; expected DELIVERED. No worker has processed it.")


@pytest.mark.usefixtures("worker", "queued_leads")
def test_the_secret_is_sent_and_never_shown(web: WebServer, settings: Any) -> None:
    settings.ENABLE_AUTH, settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = True, ["s3cret-word"], ["a"]

    output, error = send(web.url)
    assert error is None
    assert "s3cret-word" not in output

    output, error = send(web.url, "--secret", "wr0ng-word")
    assert "-> 401" in output
    assert str(error) == "The gateway did not accept the lead."
    assert "wr0ng-word" not in output
    assert InboundLead.objects.count() == 1


def test_a_missing_gateway_is_an_error() -> None:
    output, error = send(f"http://127.0.0.1:{free_port()}")

    assert output == ""
    assert str(error).startswith("No response from ")
    assert "(ConnectionError)" in str(error)
    assert not InboundLead.objects.exists()


@pytest.mark.parametrize("body", [b"OK", b"[]", b"{}", b"\xff", b'{"lead_id": 1}'])
def test_the_response_of_another_program_is_an_error(body: bytes) -> None:
    with http_server(lambda _: Answer(body=body)) as url:
        assert "is not from Lead Gateway" in str(send(url)[1])


def test_a_gateway_with_another_database_is_an_error() -> None:
    accepted = {"lead_id": 7, "status": "RECEIVED", "correlation_id": "550e8400-e29b-41d4-a716-446655440000"}

    with http_server(lambda _: Answer(body=json.dumps(accepted).encode())) as url:
        assert "is not in this command's database" in str(send(url)[1])
