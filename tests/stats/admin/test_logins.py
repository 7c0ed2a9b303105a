"""Login: limited, logged without the typed text, and ended after eight hours."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
INDEX = "/admin/"


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna", password="correct horse", is_staff=True)


def sign_in(client: Client, password: str, name: str = "anna", **headers: Any) -> Any:
    return client.post(f"{LOGIN}?next={INDEX}", {"username": name, "password": password}, **headers)


def test_five_wrong_passwords_lock_the_account_for_15_minutes_at_this_address(
    client: Client, anna: User, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.create_user("bert", password="correct horse", is_staff=True)
    for _ in range(4):
        assert sign_in(client, "wrong").status_code == 200
    locked = sign_in(client, "wrong")

    assert locked.status_code == 429
    assert "login_locked_out" in caplog.text
    assert locked.headers["Retry-After"] == "900"
    assert "Too many failed attempts. Try again in 15 minutes." in locked.text
    assert sign_in(client, "correct horse").status_code == 429
    assert sign_in(client, "correct horse", REMOTE_ADDR="192.0.2.7").status_code == 302
    assert sign_in(Client(), "correct horse", name="bert").status_code == 302
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert sign_in(client, "correct horse").status_code == 302


def test_logins_are_logged_without_the_typed_text(client: Client, anna: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sign_in(client, "not the password", name="my password by mistake")
    sign_in(client, "correct horse")
    client.post("/admin/logout/")

    text = caplog.text
    assert [word for word in ("login_failed", "'login'", "logout") if word not in text] == []
    assert f"'user_id': {anna.pk}" in text
    assert "127.0.0.1" in text
    assert "mistake" not in text
    assert "horse" not in text


def test_a_session_ends_after_eight_hours(client: Client, anna: User) -> None:
    sign_in(client, "correct horse")

    with time_machine.travel(timezone.now() + timedelta(hours=7, minutes=59)):
        assert client.get(INDEX).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(hours=8, minutes=1)):
        assert client.get(INDEX).headers["Location"].startswith(LOGIN)


def test_the_session_cookie_is_secure(client: Client, anna: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["gateway.example"]

    session = sign_in(client, "correct horse", HTTP_HOST="gateway.example").cookies["sessionid"]

    assert (session["secure"], session["httponly"], session["samesite"]) == (True, True, "Lax")
    assert session["max-age"] == 8 * 3600


@pytest.mark.parametrize(("language", "word"), [("de-DE,de;q=0.9", "Anmelden"), ("en-GB", "Log in"), ("fr", "Log in")])
def test_the_login_page_has_the_language_of_the_browser(client: Client, language: str, word: str) -> None:
    assert word in client.get(LOGIN, HTTP_ACCEPT_LANGUAGE=language).text
