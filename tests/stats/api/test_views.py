"""The HTTP API of statistics, in the shapes of the specification."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from leads.models import InboundLead
from stats.api import queries
from tests import make

COUNTS = "/stats/leads/counts"
RECENT = "/stats/leads/recent"

JSON = "application/json"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_few_event_ids")]


def history(lead_id):
    return f"/stats/leads/{lead_id}/history"


def execute(sql, *values):
    """Run one SQL statement, as an operator would in a database client."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


# --- counts ----------------------------------------------------------------------------------------------------------


def test_counts_match_the_specification(client):
    assert set(client.get(COUNTS).json().values()) == {0}
    for status, count in {"RECEIVED": 10, "REJECTED": 2, "READY": 3, "DELIVERED": 45, "PERMANENTLY_FAILED": 1}.items():
        InboundLead.objects.bulk_create(
            InboundLead(raw_payload={}, status=status, correlation_id=number, idempotency_key=number)
            for number in (f"00000000-0000-0000-0000-{number:012}" for number in range(count))
        )

    response = client.get(COUNTS)

    assert response.status_code == 200
    assert response["Content-Type"] == JSON
    assert list(response.json().items()) == [
        ("received", 10),
        ("rejected", 2),
        ("ready", 3),
        ("delivered", 45),
        ("failed", 0),
        ("permanently_failed", 1),
        ("total", 61),
    ]


# --- recent ----------------------------------------------------------------------------------------------------------


def test_recent_matches_the_specification(client):
    at = datetime(2026, 1, 21, 10, 25, 0, 999_999, tzinfo=UTC)
    rejected = make.lead(status="REJECTED", rejection_reason="ZIP_NOT_66XXX", received_at=at)
    delivered = make.lead(status="DELIVERED", received_at=at + timedelta(minutes=5))

    response = client.get(RECENT)

    assert response.status_code == 200
    assert response["Content-Type"] == JSON
    assert json.dumps(response.json()) == json.dumps(
        [
            {
                "id": delivered.pk,
                "received_at": "2026-01-21T10:30:00Z",
                "status": "DELIVERED",
                "rejection_reason": None,
            },
            {
                "id": rejected.pk,
                "received_at": "2026-01-21T10:25:00Z",
                "status": "REJECTED",
                "rejection_reason": "ZIP_NOT_66XXX",
            },
        ]
    )


def test_recent_is_the_newest_fifty_by_time_and_id(client):
    assert client.get(RECENT).json() == []
    newer = [make.lead(received_at=make.NOON - timedelta(seconds=number)) for number in range(20)]
    equal = [make.lead(received_at=make.NOON - timedelta(minutes=1)) for _ in range(40)]

    expected = [lead.pk for lead in [*newer, *reversed(equal)]][:50]
    assert [lead["id"] for lead in client.get(RECENT).json()] == expected


# --- history ---------------------------------------------------------------------------------------------------------


def test_history_matches_the_specification(client):
    payload = make.payload()
    at = datetime(2026, 1, 21, 10, 30, tzinfo=UTC)
    lead = make.lead(status="DELIVERED", received_at=at, raw_payload=payload)
    make.attempt(lead, requested_at=at + timedelta(seconds=5.9), response_status=200)

    response = client.get(history(lead.pk))

    assert response.status_code == 200
    assert response["Content-Type"] == JSON
    expected = {
        "id": lead.pk,
        "received_at": "2026-01-21T10:30:00Z",
        "status": "DELIVERED",
        "rejection_reason": None,
        "raw_payload": payload,
        "normalized_payload": payload,
        "customer_payload": {"phone": "+49123456789", "product": {"name": make.PRODUCT}, "attributes": []},
        "delivery_attempts": [
            {
                "attempt_no": 1,
                "attempted_at": "2026-01-21T10:30:05Z",
                "success": True,
                "status_code": 200,
                "error_message": None,
            }
        ],
    }
    assert response.json() == expected
    assert list(response.json()) == list(expected)
    assert list(response.json()["delivery_attempts"][0]) == list(expected["delivery_attempts"][0])


def test_history_of_a_lead_inserted_by_sql(client):
    execute('INSERT INTO inbound_lead (id, raw_payload) VALUES (7, \'{"name": "Jürgen Groß"}\')')
    execute("INSERT INTO delivery_attempt (lead_id, attempt_no, response_status, success) VALUES (7, 1, 200, true)")

    response = client.get(history(7))

    assert response.json()["status"] == "RECEIVED"
    assert response.json()["normalized_payload"] is None
    assert response.json()["customer_payload"] is None
    assert response.json()["delivery_attempts"][0]["success"] is True
    assert response.json()["delivery_attempts"][0]["error_message"] is None
    assert "Jürgen Groß" in response.content.decode()
    assert response.json()["received_at"].endswith("Z")


def test_history_has_attempts_in_order_with_errors(client):
    lead = make.lead(status="FAILED")
    make.attempt(lead, attempt_no=2, response_status=None, error_message="connection refused")
    make.attempt(lead, attempt_no=1, response_status=503, error_message="HTTP 503")
    make.attempt(make.lead(), attempt_no=1)

    attempts = client.get(history(lead.pk)).json()["delivery_attempts"]

    assert [
        (attempt["attempt_no"], attempt["status_code"], attempt["error_message"], attempt["success"])
        for attempt in attempts
    ] == [(1, 503, "HTTP 503", False), (2, None, "connection refused", False)]


@pytest.mark.parametrize(
    ("claim", "errors"),
    [
        (timedelta(seconds=30), ["outcome unknown", None]),
        (timedelta(seconds=-30), ["outcome unknown", "outcome unknown"]),
        (None, ["outcome unknown", "outcome unknown"]),
    ],
)
def test_an_attempt_without_outcome_is_running_or_unknown(client, claim, errors):
    lead = make.lead(status="READY", claimed_until=claim and timezone.now() + claim)
    for _ in range(2):
        make.attempt(lead, requested_at=timezone.now(), finished_at=None)

    attempts = client.get(history(lead.pk)).json()["delivery_attempts"]

    assert [attempt["error_message"] for attempt in attempts] == errors
    assert {(attempt["success"], attempt["status_code"]) for attempt in attempts} == {(False, None)}


@pytest.mark.parametrize(
    ("lead_id", "error"),
    [
        *((unknown, "lead not found") for unknown in ("0", str(2**31), str(2**63), "9" * 1_000, "9" * 5_000)),
        *((invalid, "not found") for invalid in ("abc", "-1", "٣", "1/2", "")),
    ],
    ids=lambda value: value[:15],
)
def test_an_unknown_lead_is_404(client, lead_id, error):
    response = client.get(history(lead_id))

    assert response.status_code == 404
    assert response.json() == {"error": error, "correlation_id": response["X-Correlation-ID"]}


# --- all three -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [COUNTS, RECENT, history(1)])
def test_a_trailing_slash_and_head_make_no_difference(client, url):
    make.lead(id=1)

    responses = [client.get(url), client.get(url + "/"), client.head(url)]

    assert {response.status_code for response in responses} == {200}
    assert {response["Cache-Control"] for response in responses} == {"no-store"}
    assert responses[0].content == responses[1].content
    assert responses[2].content == b""


@pytest.mark.parametrize(("url", "queries_of_it"), [(COUNTS, 2), (RECENT, 1), (history(1), 2)])
def test_the_number_of_queries_does_not_grow_with_the_leads(client, django_assert_num_queries, url, queries_of_it):
    lead = make.lead(id=1)
    with django_assert_num_queries(queries_of_it):
        client.get(url)

    for _ in range(5):
        make.attempt(lead)
        make.lead()

    with django_assert_num_queries(queries_of_it):
        client.get(url)


@pytest.mark.parametrize("url", [COUNTS, RECENT, history(1), "/health", "/health/ready"])
@pytest.mark.parametrize("method", ["post", "delete", "options"])
def test_other_methods_are_refused(client, url, method):
    make.lead(id=1)

    response = getattr(client, method)(url)

    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"
    assert response.json() == {"error": "method not allowed", "correlation_id": response["X-Correlation-ID"]}
    assert InboundLead.objects.count() == 1


@pytest.mark.parametrize("accept", ["text/html", "nonsense"])
def test_the_response_is_json_for_any_accept_header(client, accept):
    assert client.get(COUNTS, headers={"Accept": accept})["Content-Type"] == JSON


@pytest.mark.parametrize(
    ("url", "lost"),
    [
        (COUNTS, (connection, "ensure_connection")),
        (COUNTS, (queries, "counts")),
        (RECENT, (queries, "recent")),
        (history(1), (queries, "find_lead")),
        (history(1), (queries, "attempts_of")),
    ],
)
def test_without_the_database_or_when_it_is_lost_the_response_is_503(client, monkeypatch, url, lost):
    def refuse(*_):
        raise OperationalError("connection to postgres://user:secret@host failed")

    make.lead(id=1)
    monkeypatch.setattr(*lost, refuse)

    response = client.get(url)

    assert response.status_code == 503
    assert response.json() == {"error": "database error", "correlation_id": response["X-Correlation-ID"]}
    assert response["Retry-After"] == "1"


def test_text_that_is_not_valid_utf8_is_replaced(client, monkeypatch):
    monkeypatch.setattr(queries, "recent", lambda: ["a\ud800b"])

    assert client.get(RECENT).json() == ["a?b"]
