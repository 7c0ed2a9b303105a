"""The OpenAPI contract of the HTTP interface, and requests to the whole WSGI application."""

import schemathesis.openapi
from schemathesis.checks import CheckFunction
from schemathesis.core.transport import Response
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from werkzeug.test import Client, TestResponse

from leadgateway.wsgi import application
from tests.environment import ROOT

PATH = ROOT / "config" / "openapi.yaml"
WEBHOOK = "/webhooks/leads"
HISTORY = "/stats/leads/{lead_id}/history"

#: Checks of a response with any status.
FORM: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def load() -> BaseSchema:
    """Return the contract. Calls through it go to the WSGI application with its middleware."""
    contract = schemathesis.openapi.from_path(PATH)
    contract.app = application
    return contract


CONTRACT = load()


def ask(path: str, method: str = "GET", /, **request: object) -> TestResponse:
    """Send a request to the application. As in production, an error is a response and not an exception."""
    return Client(application).open(path, method=method, base_url="http://localhost", **request)


def assert_kept(response: Response | TestResponse, path: str, method: str = "GET") -> None:
    """Check that the contract describes the response for this path and method."""
    CONTRACT[path][method].Case().validate_response(response, checks=FORM)
