"""The webhook: responses to senders, and what is stored."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from leadgateway import queue
from leads.models import InboundLead, LeadEvent
from leads.webhook import view
from tests import make, payloads
from tests.web_server import WEBHOOK


@pytest.fixture(autouse=True)
def enqueued(monkeypatch):
    """Record which leads are enqueued, without a broker. tests/e2e uses a real one."""
    leads = []
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, **_: leads.extend(lead_ids))
    return leads


def test_the_specified_lead_is_stored(web, enqueued):
    payload = make.payload()

    response = web.post(payload)

    lead = InboundLead.objects.get()
    assert response.status_code == 200
    assert response.json() == {"lead_id": lead.pk, "status": "RECEIVED", "correlation_id": str(lead.correlation_id)}
    assert response.headers["X-Correlation-ID"] == str(lead.correlation_id)
    assert lead.raw_payload == payload
    assert lead.status == "RECEIVED"
    assert enqueued == [lead.pk]
    assert list(lead.events.values_list("kind", "actor", "correlation_id")) == [
        ("received", "webhook", lead.correlation_id)
    ]


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/json; charset=latin-1"])
@pytest.mark.parametrize("accept", ["text/html", "nonsense"])
def test_path_with_slash_content_type_and_accept_header_do_not_matter(web, content_type, accept):
    response = web.post(make.payload(), WEBHOOK + "/", Content_Type=content_type, Accept=accept)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("given", ["550e8400-e29b-41d4-a716-446655440000", "<script>", "x" * 5000])
def test_a_correlation_id_of_the_sender_is_kept_if_it_is_a_uuid(web, given):
    returned = web.post(make.payload(), X_Correlation_ID=given).json()["correlation_id"]

    assert str(InboundLead.objects.get().correlation_id) == returned
    assert (returned == given) is (len(given) == 36)
    assert uuid.UUID(returned)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"a": NaN}', b"[" * 5000, json.dumps(payloads.load("several_leads")).encode()]
)
def test_a_malformed_body_is_refused(web, enqueued, body):
    response = web.post(body)

    assert response.status_code == 400
    assert response.json() == {
        "error": "malformed JSON payload",
        "correlation_id": response.headers["X-Correlation-ID"],
    }
    assert response.headers["X-Error-Detail"]
    assert not InboundLead.objects.exists()
    assert enqueued == []


def test_unstorable_characters_are_replaced_and_noted(web):
    response = web.post(rb'{"name": "A\u0000nn\ud800", "\u0000": 1}')

    lead = InboundLead.objects.get()
    assert response.status_code == 200
    assert lead.raw_payload == {"name": "A\ufffdnn\ufffd", "\ufffd": 1}
    assert lead.events.get().detail["notes"]


def test_a_body_over_the_limit_is_refused(web, settings, enqueued):
    settings.MAX_PAYLOAD_BYTES = 100

    response = web.post({"a": "x" * 100})

    assert response.status_code == 413
    assert response.json()["error"] == "payload too large"
    assert not InboundLead.objects.exists()
    assert enqueued == []


@pytest.mark.parametrize("method", ["get", "put", "head", "options"])
def test_other_methods_are_refused(web, method):
    response = web.ask(WEBHOOK, method.upper())

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    if method != "head":
        assert response.json() == {
            "error": "method not allowed",
            "correlation_id": response.headers["X-Correlation-ID"],
        }


@pytest.mark.parametrize("path", ["/", "/webhooks/leads/1", "/%00", "/webhooks/leads%0A", "/webhooks/leads//"])
def test_an_unknown_path_is_refused(web, path):
    response = web.post({}, path)

    assert response.status_code == 404
    assert response.json() == {"error": "not found", "correlation_id": response.headers["X-Correlation-ID"]}


def test_an_unknown_host_is_refused(web):
    response = web.post({}, Host="evil.example.com")

    assert response.status_code == 400
    assert response.json() == {"error": "bad request", "correlation_id": response.headers["X-Correlation-ID"]}


def test_a_bug_is_a_500_in_json(web, monkeypatch):
    def bug(*_, **__):
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(view, "stored_headers", bug)
    response = web.post(make.payload())

    assert response.status_code == 500
    assert response.json() == {
        "error": "internal server error",
        "correlation_id": response.headers["X-Correlation-ID"],
    }


# --- authentication --------------------------------------------------------------------------------------------------


@pytest.fixture
def auth(settings):
    settings.ENABLE_AUTH = True
    settings.SHARED_SECRETS = ["new secret", "alt-schlüssel"]
    settings.SHARED_SECRET_NAMES = ["portal-a", "portal-b"]


@pytest.mark.usefixtures("auth")
@pytest.mark.parametrize(
    ("secret", "source"), [("new secret", "portal-a"), ("alt-schlüssel".encode().decode("latin-1"), "portal-b")]
)
def test_each_secret_is_valid_and_names_the_source(web, secret, source):
    assert web.post(make.payload(), X_Shared_Secret=secret).status_code == 200
    assert InboundLead.objects.get().source == source


@pytest.mark.usefixtures("auth")
@pytest.mark.parametrize("secret", [None, "", "NEW SECRET", "new secret,alt-schlüssel", "\xff"])
def test_a_wrong_secret_is_refused_before_the_body_is_read(web, enqueued, secret):
    given = {} if secret is None else {"X_Shared_Secret": secret}

    response = web.post(b"not even JSON", **given)

    assert response.status_code == 401
    assert response.json() == {"error": "unauthorized", "correlation_id": response.headers["X-Correlation-ID"]}
    assert not InboundLead.objects.exists()
    assert enqueued == []


def test_without_authentication_a_lead_has_no_source(web, settings):
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["new secret"], ["portal-a"]
    web.post(make.payload(), X_Shared_Secret="new secret")

    assert InboundLead.objects.get().source is None


@pytest.mark.usefixtures("auth")
def test_the_secret_is_not_stored(web):
    web.post(make.payload(), X_Shared_Secret="new secret", Authorization="Bearer abc", User_Agent="form/1")

    headers = InboundLead.objects.get().source_headers
    assert headers["User-Agent"] == "form/1"
    assert "new secret" not in json.dumps(headers)
    assert "abc" not in headers["Authorization"]


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_a_repeated_payload_is_a_duplicate(web, enqueued):
    first = web.post(b'{"a": 1, "b": [2, {"c": 3}]}').json()
    InboundLead.objects.update(status="REJECTED")

    again = web.post(b' {"b":[2,{"c":3}],\n"a":1}')

    assert again.status_code == 200
    assert again.json() == {
        "lead_id": first["lead_id"],
        "status": "REJECTED",
        "correlation_id": again.headers["X-Correlation-ID"],
        "duplicate": True,
    }
    assert enqueued == [first["lead_id"]]
    events = LeadEvent.objects.order_by("id").values_list("kind", "correlation_id")
    assert [(kind, str(id_)) for kind, id_ in events] == [
        ("received", first["correlation_id"]),
        ("duplicate", again.headers["X-Correlation-ID"]),
    ]


def test_outside_the_window_the_same_payload_is_a_new_lead(web, enqueued):
    payload = make.payload()
    first = web.post(payload).json()["lead_id"]
    old = InboundLead.objects.get().received_at - timedelta(hours=24, seconds=1)
    InboundLead.objects.update(received_at=old)

    second = web.post(payload).json()

    assert "duplicate" not in second
    assert second["lead_id"] != first
    assert InboundLead.objects.get(pk=first).payload_hash is None
    assert InboundLead.objects.get(pk=second["lead_id"]).payload_hash
    assert enqueued == [first, second["lead_id"]]


def test_without_a_window_every_post_is_a_new_lead(web, settings):
    settings.DEDUP_WINDOW = timedelta()

    payload = make.payload()

    assert web.post(payload).json()["lead_id"] != web.post(payload).json()["lead_id"]
    assert set(InboundLead.objects.values_list("payload_hash", flat=True)) == {None}


@pytest.mark.alone
def test_a_hundred_parallel_posts_make_one_lead(web, enqueued, settings):
    settings.DATABASE_TIMEOUT = timedelta(minutes=1)
    payload = make.payload()

    with ThreadPoolExecutor(100) as pool:
        responses = [response.json() for response in pool.map(web.post, [payload] * 100)]

    assert len({response["lead_id"] for response in responses}) == 1
    assert sum("duplicate" not in response for response in responses) == 1
    assert len(enqueued) == 1
    assert LeadEvent.objects.filter(kind="duplicate").count() == 99


# --- unavailable dependencies ----------------------------------------------------------------------------------------


@pytest.fixture
def _queue_is_unavailable(monkeypatch):
    def unavailable(_lead_ids, **_):
        raise queue.QueueUnavailable("OperationalError")

    monkeypatch.setattr(queue, "enqueue", unavailable)


@pytest.mark.usefixtures("_queue_is_unavailable")
def test_without_redis_the_response_is_503_but_the_lead_is_stored(web, settings):
    settings.QUEUE_TYPE = "redis"
    payload = make.payload()

    response = web.post(payload)

    lead = InboundLead.objects.get()
    assert response.status_code == 503
    assert response.json()["error"] == "queue unavailable"
    assert lead.status == "RECEIVED"
    assert lead.enqueued_at is None
    assert web.post(payload).json()["duplicate"] is True


@pytest.mark.usefixtures("_queue_is_unavailable")
def test_a_lost_message_is_no_error_with_the_database_as_queue(web, settings):
    settings.QUEUE_TYPE = "database"

    assert web.post(make.payload()).status_code == 200
    assert InboundLead.objects.get().enqueued_at is None


def test_search_keys_are_stored_with_the_lead(web):
    web.post(make.payload(email=" Ann@Example.COM ", phone="0151 / 123 456 78", name="Ann  Müller"))

    lead = InboundLead.objects.get()
    assert (lead.search_email, lead.search_phone, lead.search_zipcode, lead.search_name) == (
        "ann@example.com",
        "+4915112345678",
        "66123",
        "ann müller",
    )


@pytest.mark.parametrize("name", ["flat", "form_tool_export", "nested_address", "full_solar"])
def test_payloads_of_real_sources_are_accepted(web, name):
    assert web.post(payloads.load(name)).status_code == 200
    assert InboundLead.objects.get().raw_payload == payloads.load(name)
