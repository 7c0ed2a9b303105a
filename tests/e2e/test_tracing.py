"""One trace follows a lead through web and worker to the customer. Collector and customer are local servers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.gateway import Gateway
from tests.http_server import Answer, Post, http_server
from tests.make import payload
from tests.processes import wait_until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

#: The customer refuses this lead once, then accepts it.
FLAKY = "+4930123503"

SENDERS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class CollectorAndCustomer:
    """An OTLP collector at /v1/traces and a customer at any other path."""

    bodies: list[bytes] = field(default_factory=list)
    leads: list[tuple[dict[str, str], str]] = field(default_factory=list)
    url: str = ""

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for request in requests for spans in request.resource_spans for scope in spans.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def spans_of(self, lead_id: int) -> list[Span]:
        """Return the spans of a lead in the order of their start times."""
        found = [span for span in self.spans if attributes(span).get("lead_gateway.lead_id") == lead_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def answer(self, post: Post) -> Answer:
        if post.path == "/v1/traces":
            self.bodies.append(post.body)
            return Answer()
        is_first = post.body not in [sent.encode() for _, sent in self.leads]
        self.leads.append(({name.lower(): value for name, value in post.headers.items()}, post.body.decode()))
        return Answer(503 if FLAKY.encode() in post.body and is_first else 200)


def attributes(span: Span) -> dict[str, Any]:
    """Return a span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.fixture(scope="module")
def outside() -> Iterator[CollectorAndCustomer]:
    both = CollectorAndCustomer()
    with http_server(both.answer) as both.url:
        yield both


@pytest.fixture(scope="module")
def gateway(outside: CollectorAndCustomer, postgres: PostgresServer, redis: RedisServer) -> Iterator[Gateway]:
    servers: dict[str, Any] = {"postgres": postgres, "redis": redis, "redis_database": 8}
    running = Gateway(customer_url=f"{outside.url}/leads", OTEL_EXPORTER_OTLP_ENDPOINT=f"{outside.url}/", **servers)
    with running:
        yield running


def test_webhook_task_and_customer_are_one_trace(gateway: Gateway, outside: CollectorAndCustomer) -> None:
    lead_id = gateway.accept(payload(phone="+4930555001"))
    wait_until(lambda: len(outside.spans_of(lead_id)) == 3, 20, "the spans of a lead")

    webhook, task, customer = outside.spans_of(lead_id)

    assert [span.name for span in (webhook, task, customer)] == ["webhook", "process_lead", "POST customer"]
    assert [span.kind for span in (webhook, task, customer)] == [
        Span.SPAN_KIND_SERVER,
        Span.SPAN_KIND_CONSUMER,
        Span.SPAN_KIND_CLIENT,
    ]
    assert {span.trace_id for span in (webhook, task, customer)} == {webhook.trace_id}
    assert (webhook.parent_span_id, task.parent_span_id, customer.parent_span_id) == (
        b"",
        webhook.span_id,
        task.span_id,
    )
    correlation_id = gateway.lead(lead_id)["correlation_id"]
    assert {attributes(span)["lead_gateway.correlation_id"] for span in (webhook, task, customer)} == {correlation_id}
    assert attributes(webhook)["http.response.status_code"] == attributes(customer)["http.response.status_code"] == 200
    [headers] = [headers for headers, sent in outside.leads if "+4930555001" in sent]
    assert headers["traceparent"].startswith(f"00-{webhook.trace_id.hex()}-{customer.span_id.hex()}-")
    assert "baggage" not in headers


def test_a_retry_belongs_to_the_trace_and_its_failure_is_recorded(
    gateway: Gateway, outside: CollectorAndCustomer
) -> None:
    lead_id = gateway.accept(payload(phone=FLAKY))
    # The webhook, two spans for each of two attempts, and the task that enqueued the retry after its countdown.
    wait_until(lambda: len(outside.spans_of(lead_id)) == 6, 20, "the spans of two attempts")

    spans = outside.spans_of(lead_id)

    assert len({span.trace_id for span in spans}) == 1
    first, second = [span for span in spans if span.name == "POST customer"]
    assert (first.status.code, attributes(first)["error.type"]) == (Status.STATUS_CODE_ERROR, "HTTP 503")
    assert attributes(first)["http.response.status_code"] == 503
    assert (second.status.code, attributes(second)["lead_gateway.attempt_no"]) == (Status.STATUS_CODE_UNSET, 2)


def test_a_lead_enqueued_by_the_sweep_is_traced_by_its_correlation_id(
    gateway: Gateway, outside: CollectorAndCustomer
) -> None:
    row = "INSERT INTO inbound_lead (raw_payload) VALUES ('{0}')"
    gateway.execute(row.format('{"zipcode": "66123", "house": {"is_owner": true}, "phone": "+4930555002"}'))
    [lead] = gateway.rows("SELECT * FROM inbound_lead ORDER BY id DESC LIMIT 1")
    wait_until(lambda: len(outside.spans_of(lead["id"])) == 2, 20, "the spans of a lead without a webhook")

    task, customer = outside.spans_of(lead["id"])

    assert task.parent_span_id == b""
    assert customer.parent_span_id == task.span_id
    assert {attributes(span)["lead_gateway.correlation_id"] for span in (task, customer)} == {lead["correlation_id"]}


def test_a_senders_trace_is_linked_and_not_continued(gateway: Gateway, outside: CollectorAndCustomer) -> None:
    theirs = {"traceparent": f"00-{SENDERS_TRACE}-00f067aa0ba902b7-00", "baggage": "name=ann"}
    lead_id = int(gateway.post(payload(), **theirs).json()["lead_id"])
    wait_until(lambda: len(outside.spans_of(lead_id)) == 3, 20, "the spans of a lead")

    webhook, *_ = outside.spans_of(lead_id)

    assert webhook.trace_id.hex() != SENDERS_TRACE
    assert [link.trace_id.hex() for link in webhook.links] == [SENDERS_TRACE]


def test_spans_contain_no_personal_data(gateway: Gateway, outside: CollectorAndCustomer) -> None:
    """Search everything that the module's tests have sent. Requests of staff are not traced at all."""
    gateway.get("/admin/leads/inboundlead/?q=ann@example.com")
    sent = payload(email="ann.traced@example.com", phone="+4930555003")
    lead_id = int(gateway.post(sent).json()["lead_id"])
    gateway.post(b'{"email": "broken@example.com"')
    wait_until(lambda: len(outside.spans_of(lead_id)) == 3, 20, "the spans of a lead")

    everything = b"".join(outside.bodies)
    assert b"webhook" in everything
    for personal in (rb"@example\.com", rb"4930\d{6}", rb"66123", rb"ann", rb"/admin"):
        assert not re.search(personal, everything), personal
    assert {span.name for span in outside.spans} == {"webhook", "process_lead", "POST customer"}
    assert {name for span in outside.spans for name in attributes(span)} <= {
        "lead_gateway.lead_id",
        "lead_gateway.correlation_id",
        "lead_gateway.attempt_no",
        "http.response.status_code",
        "error.type",
    }
