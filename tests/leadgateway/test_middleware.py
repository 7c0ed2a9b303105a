"""Security headers of all responses."""

import pytest

API = ["/health", "/stats/leads/counts", "/metrics", "/webhooks/leads", "/nowhere"]
ADMIN = ["/admin/login/", "/admin/", "/admin/nowhere/"]


def policy(response):
    parts = (part.split() for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: set(values) for name, *values in parts}


@pytest.mark.parametrize("path", API + ADMIN)
def test_every_response_has_the_security_headers(web, path):
    response = web.ask(path)

    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in response.headers["Permissions-Policy"]
    assert policy(response)["frame-ancestors"] == {"'none'"}
    assert policy(response)["default-src"] == {"'none'"}


@pytest.mark.parametrize("path", API)
def test_api_responses_are_neither_rendered_nor_cached(web, path):
    response = web.ask(path)

    assert set(policy(response)) == {"default-src", "frame-ancestors"}
    assert response.headers["Cache-Control"] == "no-store"


def test_the_admin_loads_scripts_from_our_files_only(web):
    response = web.ask("/admin/login/")

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


def test_admin_pages_are_not_cached(web):
    assert "no-store" in web.ask("/admin/login/").headers["Cache-Control"]


@pytest.mark.parametrize("path", API)
def test_tls_is_required_for_a_year_behind_a_tls_proxy(web, path):
    behind_tls = web.ask(path, headers={"X-Forwarded-Proto": "https"})

    assert behind_tls.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert "Strict-Transport-Security" not in web.ask(path).headers
