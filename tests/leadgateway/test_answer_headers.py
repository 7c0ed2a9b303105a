"""What browsers are told with every answer, whoever asked and whatever came of it."""

import pytest

PROGRAMS = ["/health", "/stats/leads/counts", "/stats/leads/1/history", "/metrics", "/webhooks/leads", "/nowhere"]
PEOPLE = ["/admin/login/", "/admin/", "/admin/nowhere/"]

pytestmark = pytest.mark.django_db


def policy(response):
    parts = (part.split() for part in response["Content-Security-Policy"].split(";"))
    return {name: set(values) for name, *values in parts}


@pytest.mark.parametrize("path", PROGRAMS + PEOPLE)
def test_every_answer_is_what_it_says_and_in_no_frame(client, path):
    response = client.get(path)

    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in response["Permissions-Policy"]
    assert policy(response)["frame-ancestors"] == {"'none'"}
    assert policy(response)["default-src"] == {"'none'"}


@pytest.mark.parametrize("path", PROGRAMS)
def test_what_programs_are_answered_is_no_page_and_kept_nowhere(client, path):
    response = client.get(path)

    assert set(policy(response)) == {"default-src", "frame-ancestors"}
    assert response["Cache-Control"] == "no-store"


def test_scripts_of_the_admin_come_from_our_files_only(client):
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


def test_the_admins_pages_are_kept_by_no_cache(client):
    assert "no-store" in client.get("/admin/login/")["Cache-Control"]


def test_tls_once_is_tls_for_a_year(client):
    assert client.get("/health", secure=True)["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert "Strict-Transport-Security" not in client.get("/health")
