"""`send_test_lead` against the real web application; the worker's part is played by the real pipeline."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from delivery.configuration import Configuration
from delivery.management.commands import send_test_lead
from delivery.pipeline import advance
from leads.models import InboundLead, LeadStatus
from tests.hostile_customer import HostileCustomer as DemoCustomer
from tests.processes import free_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(config: Configuration) -> Iterator[None]:
    """Take every lead on, as a worker would."""
    ends = threading.Event()

    def work() -> None:
        while not ends.wait(0.05):
            for lead in InboundLead.objects.filter(claim_token=None, status=LeadStatus.RECEIVED):
                advance(lead.pk, config=config)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ends.set()
    thread.join()


def send(url: str, *arguments: str) -> tuple[str, CommandError | None]:
    """Run the command; return what it printed, and how it failed."""
    output = StringIO()
    try:
        call_command("send_test_lead", "--url", url, *arguments, stdout=output)
    except CommandError as error:
        return output.getvalue(), error
    return output.getvalue(), None


@pytest.mark.usefixtures("worker", "queued_leads")
def test_a_delivered_lead_is_followed_step_by_step(live_server: Any, customer: DemoCustomer) -> None:
    output, error = send(live_server.url)

    assert error is None
    assert "-> 200" in output
    for step in ("Received", "RECEIVED -> READY", "attempt_no=1", "response_status=200", "READY -> DELIVERED"):
        assert step in output
    assert output.endswith("DELIVERED, as expected.\n")
    assert len(customer.requests) == 1


@pytest.mark.usefixtures("worker", "queued_leads")
def test_each_lead_is_a_new_one(live_server: Any, customer: DemoCustomer) -> None:
    assert [send(live_server.url)[1] for _ in range(2)] == [None, None]

    assert InboundLead.objects.count() == 2
    assert len(customer.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["--zipcode", "12345"], "ZIP_NOT_66XXX"), (["--not-owner"], "NOT_HOMEOWNER")]
)
@pytest.mark.usefixtures("worker", "queued_leads")
def test_a_rejection_that_had_to_come_is_a_success(
    live_server: Any, customer: DemoCustomer, arguments: list[str], reason: str
) -> None:
    output, error = send(live_server.url, *arguments)

    assert error is None
    assert f"REJECTED ({reason}), as expected." in output
    assert customer.requests == []


@pytest.mark.usefixtures("worker", "queued_leads")
def test_a_customer_who_refuses_is_a_failure(live_server: Any, customer: DemoCustomer) -> None:
    customer.set_mode("status=422")

    output, error = send(live_server.url)

    assert "response_status=422" in output
    assert str(error).startswith("PERMANENTLY_FAILED; expected DELIVERED.")


@pytest.mark.usefixtures("queued_leads")
def test_without_a_worker_time_runs_out(live_server: Any) -> None:
    output, error = send(live_server.url, "--wait", "500ms")

    assert "for up to 0.5 s" in output
    assert str(error).startswith("RECEIVED; expected DELIVERED. No worker took it")


@pytest.mark.usefixtures("worker", "queued_leads")
def test_the_secret_is_sent_and_never_shown(live_server: Any, settings: Any) -> None:
    settings.ENABLE_AUTH, settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = True, ["s3cret-word"], ["a"]

    output, error = send(live_server.url)
    assert error is None
    assert "s3cret-word" not in output

    output, error = send(live_server.url, "--secret", "wr0ng-word")
    assert "-> 401" in output
    assert str(error) == "The lead was not accepted."
    assert "wr0ng-word" not in output
    assert InboundLead.objects.count() == 1


def test_a_gateway_that_is_not_there_is_told(live_server: Any) -> None:
    output, error = send(f"http://127.0.0.1:{free_port()}")

    assert output == ""
    assert "does not answer (ConnectionError)" in str(error)
    assert not InboundLead.objects.exists()


class Impostor(BaseHTTPRequestHandler):
    """Answers every POST with what `answer` holds."""

    answer: bytes = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def impostor() -> Iterator[Callable[[bytes], str]]:
    servers = []

    def start(answer: bytes) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answering", (Impostor,), {"answer": answer}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("answer", [b"OK", b"[]", b"{}", b"\xff", b'{"lead_id": 1}'])
def test_another_program_on_that_port_is_recognised(impostor: Callable[[bytes], str], answer: bytes) -> None:
    assert "no answer of Lead Gateway" in str(send(impostor(answer))[1])


def test_a_gateway_with_another_database_cannot_be_followed(impostor: Callable[[bytes], str]) -> None:
    answer = {"lead_id": 7, "status": "RECEIVED", "correlation_id": "550e8400-e29b-41d4-a716-446655440000"}

    assert "not in the database that this command uses" in str(send(impostor(json.dumps(answer).encode()))[1])


def test_the_lead_is_the_seeds_with_an_address_of_its_own() -> None:
    options = {"phone": "+491", "zipcode": "66000", "not_owner": True}

    first, second = send_test_lead._payload(options), send_test_lead._payload(options)

    assert first["email"] != second["email"]
    assert (first["phone"], first["zipcode"], first["house"]) == ("+491", "66000", {"is_owner": False})
