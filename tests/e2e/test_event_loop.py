"""The webhook while the same process does something else: stalled connections, the admin, an export, many logins."""

import re
import resource
import socket
import statistics
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from tests.background import running_threads
from tests.e2e.gateway import Gateway
from tests.e2e.senders import PostResult, post
from tests.hostile_customer import HostileCustomer
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180)]

PASSWORD = "correct horse battery staple"
MAKE_STAFF = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("root", password={PASSWORD!r})
"""
LEADS = "/admin/leads/inboundlead/"

#: The half of the posts must take less. On a quiet machine they take 5 ms.
MEDIAN_S = 0.25


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, redis: RedisServer, running_customer: HostileCustomer) -> Iterator[Gateway]:
    servers = {"postgres": postgres, "redis": redis, "redis_database": 8}
    gateway = Gateway(customer_url=running_customer.url, WEB_READ_TIMEOUT="2m", **servers)
    gateway.start(web=1, worker=0, beat=0)
    try:
        gateway.manage("shell", "-c", MAKE_STAFF)
        yield gateway
    finally:
        gateway.stop()


def assert_fast(results: list[PostResult]) -> None:
    assert {result.status for result in results} == {200}
    assert statistics.median(result.seconds for result in results) < MEDIAN_S


@contextmanager
def staff(gateway: Gateway) -> Iterator[tuple[requests.Session, str]]:
    """Sign in as a superuser. Yield the session and its CSRF token."""
    with requests.Session() as session:
        token = token_in(session.get(f"{gateway.url}/admin/login/").text)
        sent = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token, "next": "/admin/"}
        page = session.post(f"{gateway.url}/admin/login/", data=sent)
        assert page.url.endswith("/admin/")
        yield session, token_in(session.get(gateway.url + LEADS).text)


def token_in(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


def test_ten_thousand_stalled_connections_do_not_delay_senders(gateway: Gateway) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, most - 1000)
    head = b"POST /webhooks/leads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n"
    sent = [b"", head, head + b'\r\n{"email":']
    with ExitStack() as opened:
        stalled = []
        for number in range(count):
            sender = opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=30))
            sender.sendall(sent[number % 3])
            stalled.append(sender)

        results = [post(gateway) for _ in range(30)]
        for sender in stalled[1::3]:  # a header that never ends
            sender.sendall(b"x")
        results += [post(gateway) for _ in range(30)]

    assert_fast(results)


def test_the_admin_an_export_and_logins_do_not_delay_senders(gateway: Gateway) -> None:
    gateway.execute(
        "INSERT INTO inbound_lead (raw_payload)"
        """ SELECT json_build_object('email', n || '@example.com', 'filling', repeat('x', 500))"""
        " FROM generate_series(1, 5000) AS n"
    )
    wrong = {"username": "root", "password": "wrong"}
    with staff(gateway) as (session, token):
        form = {"format": "jsonl", "csrfmiddlewaretoken": token}

        def read_admin(stop: threading.Event) -> None:
            while not stop.is_set():
                assert session.get(gateway.url + LEADS).status_code == 200

        def export(stop: threading.Event) -> None:
            while not stop.is_set():
                answer = session.post(f"{gateway.url}{LEADS}export/", data=form)
                assert answer.content.splitlines()[-1].startswith(b'{"end_of_export": true')

        def log_in(stop: threading.Event) -> None:
            with requests.Session() as guesser:
                while not stop.is_set():
                    page = guesser.get(f"{gateway.url}/admin/login/").text
                    sent = wrong | {"username": f"user-{id(guesser)}", "csrfmiddlewaretoken": token_in(page)}
                    assert guesser.post(f"{gateway.url}/admin/login/", data=sent).status_code in (200, 403, 429)
                    guesser.cookies.clear()

        with running_threads(read_admin, count=1), running_threads(export, count=1), running_threads(log_in, count=4):
            results = [post(gateway) for _ in range(100)]

    assert_fast(results)
