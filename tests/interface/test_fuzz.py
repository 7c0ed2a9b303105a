"""Fuzz the HTTP interface from its contract: every response is one that the contract describes."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from schemathesis.generation.case import Case

from leads.models import InboundLead
from leads.webhook.headers import REDACTED
from tests.interface.contract import CONTRACT, FORM, HISTORY, WEBHOOK, assert_kept
from tests.json_strategies import JSON_VALUES, TEXTS
from tests.web_server import WebServer

# Not in a transaction: the application closes its database connection after each response.
pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "a-secret-that-no-example-contains"

#: A request takes a hundred times as long as a function call.
fewer = settings(max_examples=max(settings.default.max_examples // 4, 1))


# --- from the contract -----------------------------------------------------------------------------------------------


@CONTRACT.parametrize()
@fewer
def test_every_response_matches_the_contract(web: WebServer, case: Case) -> None:
    response = case.call_and_validate(base_url=web.url)

    if case.operation.path == WEBHOOK and response.status_code == 200:
        assert_stored(web, response.json(), response.request.body)


@CONTRACT.include(path_regex="^/(webhooks|stats|metrics)").parametrize()
@fewer
def test_no_request_succeeds_without_the_secret(web: WebServer, settings, case: Case) -> None:
    settings.ENABLE_AUTH = True
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES, settings.STATS_TOKEN = [SECRET], ["portal"], SECRET

    response = case.call(base_url=web.url)

    assert response.status_code in (401, 404, 405)
    assert response.json()["error"] in ("unauthorized", "not found", "method not allowed")
    case.validate_response(response, checks=FORM)
    assert not InboundLead.objects.exists()


def assert_stored(web: WebServer, receipt: dict[str, Any], body: bytes) -> None:
    """Check that the database has the payload and that the lead's history can be read."""
    lead = InboundLead.objects.get(pk=receipt["lead_id"])
    assert as_read(lead.raw_payload) == as_read(cleaned(json.loads(body)))
    assert_kept(web.ask(HISTORY.format(lead_id=lead.pk)), HISTORY)


def cleaned(value: Any) -> Any:
    """Return JSON as the database can store it. An independent implementation of what the gateway does."""
    if isinstance(value, str):
        return "".join("\ufffd" if sign == "\0" or 0xD800 <= ord(sign) < 0xE000 else sign for sign in value)
    if isinstance(value, dict):
        return {cleaned(name): cleaned(member) for name, member in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, list) else value


def as_read(value: Any) -> Any:
    """Return JSON with all numbers as floats, because PostgreSQL writes 1e300 with all its digits."""
    if isinstance(value, dict):
        return {name: as_read(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_read(item) for item in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


# --- inputs beyond the contract --------------------------------------------------------------------------------------

FRAGMENTS = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b":", b",", b"1e999", b"\xef\xbb\xbf", b"\xff"]
    )
    | st.binary(max_size=4)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    max_size=8,
).map(b"".join)

#: Headers are decoded as Latin-1, and servers refuse control characters of ASCII.
HEADER_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60).map(
    str.strip
)
HEADER_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() not in ("content-length", "content-type", "host", "transfer-encoding", "x-shared-secret")
)


@given(st.dictionaries(TEXTS, JSON_VALUES, max_size=4), st.booleans())
@fewer
def test_an_accepted_payload_is_stored_unchanged(web, payload, ascii_only):
    body = json.dumps(payload, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    response = web.post(body)

    assert response.status_code in (200, 400)
    assert_kept(response, WEBHOOK, "POST")
    if response.status_code == 200:
        assert_stored(web, response.json(), body)


@given(FRAGMENTS | FRAGMENTS.map(lambda body: b'{"a":' + body + b"}"))
@fewer
def test_any_bytes_are_accepted_or_refused(web, body):
    leads = InboundLead.objects.count()
    response = web.post(body)

    assert response.status_code in (200, 400)
    assert_kept(response, WEBHOOK, "POST")
    is_new = response.status_code == 200 and "duplicate" not in response.json()
    assert InboundLead.objects.count() == leads + is_new


@given(st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=5), HEADER_VALUES)
@fewer
def test_any_headers_are_accepted_and_the_secret_is_not_stored(web, headers, correlation_id):
    sent = headers | {
        "X-Shared-Secret": SECRET,
        "Authorization": f"Bearer {SECRET}",
        "X-Correlation-ID": correlation_id,
    }
    response = web.ask(WEBHOOK, "POST", data=json.dumps(headers), headers=sent)

    assert response.status_code == 200
    assert_kept(response, WEBHOOK, "POST")
    kept = InboundLead.objects.get(pk=response.json()["lead_id"]).source_headers
    assert kept["X-Shared-Secret"] == kept["Authorization"] == REDACTED
    assert SECRET not in json.dumps(kept)


@given(
    st.lists(
        st.builds(
            "{};version={}{}".format,
            st.sampled_from(["text/plain", "application/openmetrics-text", "*/*"]),
            st.sampled_from(["1.0.0", "0.0.4", "2.0.0"]) | HEADER_VALUES,
            st.sampled_from(["", ";q=0.5", ";escaping=allow-utf-8"]) | HEADER_VALUES,
        )
        | HEADER_VALUES,
        max_size=3,
    ).map(",".join)
)
@example("text/plain;version=abc")
@example("application/openmetrics-text;version=1.0.1.\x80")
@fewer
def test_metrics_are_returned_for_any_accept_header(web, accept):
    response = web.ask("/metrics", headers={"Accept": accept})

    assert response.status_code == 200
    assert_kept(response, "/metrics")
    assert response.headers["Content-Type"].isascii()
    assert response.headers["Content-Type"].isprintable()
