"""HTTP on a real connection: ambiguous requests, connections that are kept or closed, early responses."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import requests

from tests import make
from tests.web_server import WEBHOOK, WebServer, web_server

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /webhooks/leads HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def connected(web: WebServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as sender:
        yield sender


def response(sender: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one response: its status, its headers with names in lower case, and its body."""
    with sender.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, stream.read(int(headers["content-length"]))


def is_closed(sender: socket.socket) -> bool:
    try:
        return sender.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "head",
    [
        GET.replace(b"\r\n", b"\n") + b"\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Content-Length: 5, 5\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + b"X-A : 1\r\n\r\n",
        GET + b"X-A: 1\r\n 2\r\n\r\n",
        GET + b"X-A: \x00\r\n\r\n",
        GET + b"X-A: 1\rX-B: 2\r\n\r\n",
        GET + b"Host: other\r\n\r\n",
        GET.replace(b"1.1", b"9.9") + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(web, head):
    with connected(web) as sender:
        sender.sendall(head)
        status, headers, body = response(sender)

        assert (status, headers["content-type"]) == (400, "application/json")
        assert json.loads(body) == {"error": "bad request", "correlation_id": None}
        assert is_closed(sender)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"X-Many: 1\r\n" * 100, 431),
        (GET + b"X-Long: " + b"x" * 8190, 431),
        (b"GET /" + b"x" * 4094, 414),
        (GET + b"X-Endless: " + b"x" * 900_000, 431),
    ],
)
def test_a_head_that_is_too_large_is_refused(web, head, status):
    with connected(web) as sender:
        sender.sendall(head + (b"" if b"Endless" in head else b"\r\n\r\n"))

        assert response(sender)[0] == status


def test_the_largest_head_is_accepted(web):
    line = b"GET /health?" + b"x" * (4094 - len("GET /health? HTTP/1.1")) + b" HTTP/1.1\r\nHost: localhost\r\n"
    with connected(web) as sender:
        sender.sendall(line + b"".join(b"X-%02d: %s\r\n" % (n, b"x" * 8180) for n in range(99)) + b"\r\n")

        assert response(sender)[0] == 200


def test_a_tunnel_is_refused(web):
    with connected(web) as sender:
        sender.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert response(sender)[0] == 405


@pytest.mark.parametrize(
    ("request_", "is_kept"),
    [
        (GET + b"\r\n", True),
        (GET + b"Connection: close\r\n\r\n", False),
        (GET.replace(b"1.1", b"1.0") + b"\r\n", False),
        (POST + b"Content-Length: 2\r\n\r\n[]", True),
        (POST + b"Content-Length: 999999999\r\n\r\n", True),
        (POST + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_unless_the_next_request_could_not_be_found(web, request_, is_kept):
    with connected(web) as sender:
        sender.sendall(request_)
        assert ("connection" in response(sender)[1]) is not is_kept

        if is_kept:
            sender.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sender.recv(1)
        else:
            assert is_closed(sender)


def test_a_body_is_asked_for_only_when_it_is_read(web):
    body = json.dumps(make.payload()).encode()
    with connected(web) as sender:
        sender.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert sender.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sender.sendall(body)

        assert response(sender)[0] == 200


def test_the_rest_of_an_early_refusal_has_a_deadline(web, settings):
    settings.WEB_READ_TIMEOUT = timedelta(milliseconds=300)
    with connected(web) as sender:
        sender.sendall(POST + b"Content-Length: 999999999\r\n\r\n" + b"x" * 100)
        assert response(sender)[0] == 413

        assert is_closed(sender)


@pytest.mark.parametrize("status", [401, 413])
def test_an_early_refusal_of_five_megabytes_is_read_by_clients(web, settings, tmp_path, status):
    settings.ENABLE_AUTH = status == 401
    settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES = ["right"], ["portal"]
    body = tmp_path / "body"
    body.write_bytes(b"x" * 5_000_000)

    for _ in range(5):
        assert requests.post(web.url + WEBHOOK, data=body.read_bytes(), timeout=30).status_code == status
        if curl := shutil.which("curl"):
            options = ["-s", "-o", tmp_path / "out", "-w", "%{http_code}", "-H", "Expect:", "--data-binary", f"@{body}"]
            done = subprocess.run([curl, *options, web.url + WEBHOOK], capture_output=True, text=True, check=True)
            assert done.stdout == str(status)


def test_a_client_that_does_not_read_is_disconnected(web, settings):
    settings.WEB_READ_TIMEOUT = timedelta(milliseconds=500)
    request_ = b"GET /static/unfold/css/styles.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(web) as sender:
        sender.sendall(request_ * 50)  # for more than the buffers of the connection
        time.sleep(3)
        received = 0
        try:
            while part := sender.recv(1 << 20):
                received += len(part)
        except ConnectionResetError:
            pass

    assert received < 50 * 330_000


def test_a_request_on_an_idle_connection_is_answered_while_the_process_stops(transactional_db):
    with web_server() as web, connected(web) as sender, connected(web) as silent:
        sender.sendall(GET + b"\r\n")
        assert response(sender)[0] == 200

        web.stop()
        time.sleep(0.5)
        sender.sendall(GET + b"\r\n")
        status, headers, _ = response(sender)

        assert (status, headers["connection"]) == (200, "close")
        assert is_closed(sender)
        assert is_closed(silent)
