"""The contract of the HTTP interface, and the whole WSGI application that has to keep it."""

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

#: What has to hold for an answer of any status.
FORM: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def load() -> BaseSchema:
    """Return the contract; what is called through it goes to the application, middleware and all."""
    contract = schemathesis.openapi.from_path(PATH)
    contract.app = application
    return contract


CONTRACT = load()


def ask(path: str, method: str = "GET", /, **request: object) -> TestResponse:
    """Send one request to the application; a bug in it is answered, as it is in earnest, and not raised."""
    return Client(application).open(path, method=method, base_url="http://localhost", **request)


def assert_kept(response: Response | TestResponse, path: str, method: str = "GET") -> None:
    """Fail when the answer is none that the contract knows for this path and method."""
    CONTRACT[path][method].Case().validate_response(response, checks=FORM)
