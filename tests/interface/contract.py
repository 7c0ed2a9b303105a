"""The OpenAPI contract of the HTTP interface, and the checks of responses."""

import requests
import schemathesis.openapi
from schemathesis.checks import CheckFunction
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

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


CONTRACT = schemathesis.openapi.from_path(PATH)


def assert_kept(response: Response | requests.Response, path: str, method: str = "GET") -> None:
    """Check that the contract describes the response for this path and method."""
    CONTRACT[path][method].Case(path_parameters={"lead_id": 1}).validate_response(response, checks=FORM)
