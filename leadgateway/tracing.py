"""One OpenTelemetry trace per lead, from the sender's request to the customer's. Needs OTEL_EXPORTER_OTLP_ENDPOINT.

Spans are created by hand and contain ids and codes only: ready-made instrumentation records query strings, which
contain the phone numbers that staff search for. Without an endpoint, the library is not even imported.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings

from leadgateway import __version__

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer

# Attributes of spans, named after OpenTelemetry's conventions where there are any.
LEAD_ID = "lead_gateway.lead_id"
CORRELATION_ID = "lead_gateway.correlation_id"
ATTEMPT_NO = "lead_gateway.attempt_no"
HTTP_STATUS = "http.response.status_code"
ERROR = "error.type"

Attributes = Mapping[str, str | int]

#: Headers with which a receiver continues a trace.
Headers = Mapping[str, str]

_tracer: "Tracer | None" = None


def start() -> None:
    """Start tracing if it is configured. Call this in each process after the fork."""
    global _tracer
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT or _tracer is not None:
        return
    from celery.signals import before_task_publish
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: settings.OTEL_SERVICE_NAME, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource)
    endpoint = f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT.rstrip('/')}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _tracer = provider.get_tracer("lead_gateway", __version__)
    before_task_publish.connect(_add_headers_to_message)


def is_on() -> bool:
    """Return whether spans are recorded."""
    return _tracer is not None


@dataclass(frozen=True, eq=False)
class Trace:
    """A span that several threads work on, one after the other. It is not the current span of any of them."""

    span: "Span"
    headers: Headers

    def note(self, attributes: Attributes, *, error: str | None = None) -> None:
        """Add attributes to the span. `error` marks it as failed; it must not contain personal data."""
        _note(self.span, attributes, error)

    def end(self, *, error: str | None = None) -> None:
        """End the span."""
        self.note({}, error=error)
        self.span.end()


def begin(name: str, kind: Literal["CONSUMER"], attributes: Attributes, within: Headers) -> Trace | None:
    """Begin a span in the trace of `within`, or in a new one. None: tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry.trace import SpanKind, set_span_in_context

    begun = _tracer.start_span(name, kind=SpanKind[kind], attributes=attributes, **_parent(within, None))
    headers: dict[str, str] = {}
    _propagator().inject(headers, context=set_span_in_context(begun))
    return Trace(begun, headers)


@contextmanager
def current(trace: Trace | None) -> Iterator[None]:
    """Make the span of a trace the current one, so that messages sent in the block continue it."""
    if trace is None:
        yield
        return
    from opentelemetry.trace import use_span

    with use_span(trace.span):
        yield


@contextmanager
def span(
    name: str,
    kind: Literal["SERVER", "CONSUMER", "CLIENT"],
    attributes: Attributes,
    *,
    within: Mapping[str, str] | None = None,
    linked_to: Mapping[str, str] | None = None,
) -> Iterator[Mapping[str, str]]:
    """Record a span for the block. Of an exception only the type is recorded, because its text may be personal data.

    Yields the headers with which a receiver continues the trace. The span itself continues the current trace unless
    one of these is given:

    :param within: headers of one of our own messages, whose trace this span continues.
    :param linked_to: headers of a request from outside. The span starts a new trace with a link to the sender's: a
        sender must not decide whether and what we trace.
    """
    carrier: dict[str, str] = {}
    if _tracer is None:
        yield carrier
        return
    from opentelemetry.trace import SpanKind

    options = {"kind": SpanKind[kind], "attributes": attributes, **_parent(within, linked_to)}
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False, **options):
        try:
            _propagator().inject(carrier)
            yield carrier
        except BaseException as error:
            note({}, error=type(error).__name__)
            raise


def note(attributes: Attributes, *, error: str | None = None) -> None:
    """Add attributes to the current span. `error` marks it as failed; it must not contain personal data."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    _note(get_current_span(), attributes, error)


def _note(span: "Span", attributes: Attributes, error: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(attributes)
    if error:
        span.set_status(Status(StatusCode.ERROR, error))
        span.set_attribute(ERROR, error)


# Celery passes many keyword arguments, of which the headers are those of the message itself.
def _add_headers_to_message(headers: dict[str, Any], **_: Any) -> None:
    _propagator().inject(headers)


def _parent(within: Mapping[str, str] | None, linked_to: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the options that place a span in a trace; none to place it in the current span."""
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span

    if within is not None:
        return {"context": _propagator().extract(within, context=Context())}
    if linked_to is None:
        return {}
    sender = get_current_span(_propagator().extract(linked_to, context=Context())).get_span_context()
    return {"context": Context(), "links": [Link(sender)] if sender.is_valid else []}


def _propagator() -> "TextMapPropagator":
    """Return the reader and writer of `traceparent`. `baggage` is not passed on: a sender could fill it."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
