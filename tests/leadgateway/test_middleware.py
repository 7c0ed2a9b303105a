"""Security headers of all responses."""

import pytest

API = ["/health", "/stats/leads/counts", "/metrics", "/webhooks/leads", "/nowhere"]
ADMIN = ["/admin/login/", "/admin/", "/admin/nowhere/"]

pytestmark = pytest.mark.django_db


def policy(response):
    parts = (part.split() for part in response["Content-Security-Policy"].split(";"))
    return {name: set(values) for name, *values in parts}


@pytest.mark.parametrize("path", API + ADMIN)
def test_every_response_has_the_security_headers(client, path):
    response = client.get(path)

    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in response["Permissions-Policy"]
    assert policy(response)["frame-ancestors"] == {"'none'"}
    assert policy(response)["default-src"] == {"'none'"}


@pytest.mark.parametrize("path", API)
def test_api_responses_are_neither_rendered_nor_cached(client, path):
    response = client.get(path)

    assert set(policy(response)) == {"default-src", "frame-ancestors"}
    assert response["Cache-Control"] == "no-store"


def test_the_admin_loads_scripts_from_our_files_only(client):
    response = client.get("/admin/login/")

    allowed = policy(response)
    assert allowed["script-src"] == {"'self'", "'unsafe-eval'"}
    assert allowed["base-uri"] == {"'none'"}
    assert {source for sources in allowed.values() for source in sources} == {
        "'none'",
        "'self'",
        "'unsafe-eval'",
        "'unsafe-inline'",
        "data:",
    }


def test_admin_pages_are_not_cached(client):
    assert "no-store" in client.get("/admin/login/")["Cache-Control"]


def test_tls_is_required_for_a_year(client):
    assert client.get("/health", secure=True)["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert "Strict-Transport-Security" not in client.get("/health")
