"""Who may read the statistics."""

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection

from tests import make

URLS = ["/stats/leads/counts", "/stats/leads/recent", "/stats/leads/1/history", "/metrics"]

TOKEN = "läse-token"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _with_authentication(settings):
    settings.ENABLE_AUTH = True
    settings.STATS_TOKEN = TOKEN
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["the-senders-secret"], ["portal"]


def on_the_wire(text):
    """Return the text of a header as WSGI decodes its UTF-8 bytes."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_the_token_gives_access(client, url, header):
    make.lead(id=1)

    assert client.get(url, HTTP_AUTHORIZATION=on_the_wire(header)).status_code == 200


REFUSED = [
    {},
    {"HTTP_AUTHORIZATION": "Bearer "},
    {"HTTP_AUTHORIZATION": "Bearer wrong"},
    {"HTTP_AUTHORIZATION": TOKEN},
    {"HTTP_AUTHORIZATION": on_the_wire(f"Basic {TOKEN}")},
    {"HTTP_AUTHORIZATION": on_the_wire(f"Bearer {TOKEN}x")},
    {"HTTP_AUTHORIZATION": on_the_wire(f"Bearer {TOKEN[:-1]}")},
    {"HTTP_AUTHORIZATION": "Bearer \u20ac"},
    {"HTTP_AUTHORIZATION": "Bearer the-senders-secret"},
    {"HTTP_X_SHARED_SECRET": "the-senders-secret"},
    {"HTTP_X_SHARED_SECRET": on_the_wire(TOKEN)},
]


@pytest.mark.parametrize("url", [*URLS, "/stats/leads/999/history"])
@pytest.mark.parametrize("headers", REFUSED, ids=ascii)
def test_any_other_credentials_are_refused_without_a_query(client, django_assert_num_queries, url, headers):
    make.lead(id=1)

    with django_assert_num_queries(0):
        response = client.get(url, **headers)

    assert response.status_code == 401
    assert response.json() == {"error": "unauthorized", "correlation_id": response["X-Correlation-ID"]}
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", ""])
def test_an_empty_token_gives_no_access(client, settings, header):
    settings.STATS_TOKEN = ""

    assert client.get(URLS[0], HTTP_AUTHORIZATION=header).status_code == 401


def staff(*more, **fields):
    user = User.objects.create(username="anna", **{"is_staff": True} | fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_inboundlead", *more]))
    return user


@pytest.mark.parametrize("url", URLS)
def test_staff_with_both_permissions_may_read(client, url):
    make.lead(id=1)
    client.force_login(staff("view_personal_data"))

    assert client.get(url).status_code == 200


@pytest.mark.parametrize("more", [[], ["reveal_personal_data", "act_on_lead", "export_lead"]])
def test_staff_without_personal_data_may_not_read_a_history(client, more):
    lead = make.lead(id=1)
    client.force_login(staff(*more))

    history = client.get(URLS[2])

    assert [client.get(url).status_code for url in URLS[:2]] == [200, 200]
    assert history.status_code == 401
    assert lead.raw_payload["email"] not in history.text


@pytest.mark.parametrize("change", [{"is_staff": False}, {"is_active": False}, None])
def test_reading_needs_an_active_staff_user_with_the_permission(client, change):
    user = staff()
    client.force_login(user)
    if change:
        User.objects.update(**change)
    else:
        user.user_permissions.clear()

    assert client.get(URLS[0]).status_code == 401


def test_a_wrong_token_does_not_affect_a_session(client):
    client.force_login(staff())

    assert client.get(URLS[0], HTTP_AUTHORIZATION="Bearer wrong").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"HTTP_AUTHORIZATION": "Bearer wrong"}])
def test_without_authentication_every_client_may_read(client, settings, headers):
    settings.ENABLE_AUTH = False

    assert client.get(URLS[0], **headers).status_code == 200


def test_a_session_that_cannot_be_read_is_503(client, monkeypatch):
    client.force_login(staff())

    def refuse():
        raise OperationalError

    monkeypatch.setattr(connection, "ensure_connection", refuse)

    assert client.get(URLS[0]).status_code == 503
    assert client.get("/health/ready").status_code == 503
