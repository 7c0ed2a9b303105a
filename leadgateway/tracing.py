"""One trace from the sender's request to the customer's, for OpenTelemetry; off without OTEL_EXPORTER_OTLP_ENDPOINT.

The spans are made by hand and hold ids and codes: ready-made instrumentations record query strings, by which staff
search for people. While it is off, the library is not even imported.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from django.conf import settings

from leadgateway import __version__

# What spans are told, by the names of OpenTelemetry's conventions where there are any.
LEAD_ID = "lead_gateway.lead_id"
CORRELATION_ID = "lead_gateway.correlation_id"
ATTEMPT_NO = "lead_gateway.attempt_no"
HTTP_STATUS = "http.response.status_code"
ERROR = "error.type"

Attributes = Mapping[str, str | int]

_tracer: Any = None


def start() -> None:
    """Begin to trace, if that is wanted; to be called in each process after it was forked."""
    global _tracer
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: settings.OTEL_SERVICE_NAME, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource)
    endpoint = f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT.rstrip('/')}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _tracer = provider.get_tracer("lead_gateway", __version__)


@contextmanager
def span(
    name: str,
    kind: Literal["SERVER", "CONSUMER", "CLIENT"],
    attributes: Attributes,
    *,
    within: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Trace what the block does. Of an exception only the type is told: its text may quote a person.

    :param within: the headers of a message of ours, whose trace goes on.
    :param after: the headers of somebody else, whose trace is linked to one that begins here: whether and what we
        trace is not for others to say.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    how = {"kind": SpanKind[kind], "attributes": attributes, **_place(within, after)}
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False, **how):
        try:
            yield
        except BaseException as error:
            failed(type(error).__name__)
            raise


def note(attributes: Attributes) -> None:
    """Tell the current span what has turned out."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(attributes)


def failed(what: str) -> None:
    """Mark the current span as failed; `what` must hold no personal data."""
    if _tracer is not None:
        from opentelemetry.trace import Status, StatusCode, get_current_span

        get_current_span().set_status(Status(StatusCode.ERROR, what))
        note({ERROR: what})


def headers() -> dict[str, str]:
    """Return the headers by which whoever gets them continues the trace; none when there is no trace."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        _propagator().inject(carrier)
    return carrier


def _place(within: Mapping[str, str] | None, after: Mapping[str, str] | None) -> dict[str, Any]:
    """Return where in which trace a span stands; inside the current one when neither is given."""
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span

    if within is not None:
        return {"context": _propagator().extract(within, context=Context())}
    if after is None:
        return {}
    theirs = get_current_span(_propagator().extract(after, context=Context())).get_span_context()
    return {"context": Context(), "links": [Link(theirs)] if theirs.is_valid else []}


def _propagator() -> Any:
    """Return the reader and writer of `traceparent`. Not of `baggage`: what a sender puts into it is no customer's."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
