"""Everything but the webhook: in threads, of which one that waits for its client takes none of the WEB_THREADS."""

import json
import re
import socket
import threading
import time
from contextlib import closing

import pytest
import requests
from django.contrib.auth.models import User

from leadgateway import asgi
from leadgateway.server.django_threads import DjangoInThreads
from stats.api import views
from tests import make
from tests.web_server import WebServer

LEADS = 300


@pytest.fixture
def _one_thread(monkeypatch):
    monkeypatch.setattr(asgi, "_others", DjangoInThreads(limit=1))


def staff(web: WebServer) -> tuple[requests.Session, str]:
    """Return the session of a user who is signed in, and its CSRF token."""
    User.objects.create_superuser("root", password="a long password")
    session = requests.Session()
    token = token_in(session.get(f"{web.url}/admin/login/").text)
    sent = {"username": "root", "password": "a long password", "csrfmiddlewaretoken": token, "next": "/admin/"}
    page = session.post(f"{web.url}/admin/login/", data=sent)
    assert page.url.endswith("/admin/")
    return session, token_in(session.get(f"{web.url}/admin/leads/inboundlead/").text)


def token_in(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


@pytest.mark.usefixtures("_one_thread")
def test_an_export_whose_client_does_not_read_blocks_nobody_and_is_not_collected_in_memory(web):
    for _ in range(LEADS):
        make.lead(raw_payload=make.payload(filling="x" * 100_000))  # more than the buffers of a connection
    session, token = staff(web)
    form = {"format": "jsonl", "csrfmiddlewaretoken": token}

    with session.post(f"{web.url}/admin/leads/inboundlead/export/", data=form, stream=True) as export:
        lines = export.iter_lines()
        assert next(lines)
        assert web.ask("/health").status_code == 200
        rest = list(lines)

    assert len(rest) == LEADS
    assert json.loads(rest[-1]) == {"end_of_export": True, "leads": LEADS}


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize(
    "sent", [b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx", b"GET /he"]
)
def test_a_stalled_request_takes_no_thread(web, sent):
    with closing(socket.create_connection(("127.0.0.1", web.port))) as stalled:
        stalled.sendall(sent)

        assert web.ask("/health").status_code == 200


def test_no_more_requests_than_the_limit_are_processed_at_the_same_time(web, monkeypatch):
    monkeypatch.setattr(asgi, "_others", DjangoInThreads(limit=2))
    running, most = [], []

    def count(*_):
        running.append(1)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()
        return {}

    monkeypatch.setattr(views.queries, "counts", count)
    threads = [threading.Thread(target=requests.get, args=[f"{web.url}/stats/leads/counts"]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(most) == 2


def test_a_body_that_is_too_large_for_a_form_is_refused_in_json(web, settings):
    response = web.ask("/admin/login/", "POST", data=b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1))

    assert response.status_code == 413
    assert response.json() == {"error": "payload too large", "correlation_id": response.headers["X-Correlation-ID"]}
