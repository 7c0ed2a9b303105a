"""Slow and stalled senders on real sockets: the server ends each one in time, and other senders do not wait."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.gateway import Gateway
from tests.e2e.senders import post
from tests.hostile_customer import HostileCustomer
from tests.make import payload
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(120)]

SECRET = "the-senders-secret"

#: Far fewer than the stalled senders.
THREADS = 2
STALLED = 25
READ_TIMEOUT_S = 1.0

#: A busy machine may notice a deadline this much later.
SLACK_S = 2.0

HEAD = f"POST /webhooks/leads HTTP/1.1\r\nHost: localhost\r\nX-Shared-Secret: {SECRET}\r\n".encode()
LENGTH = HEAD + b"Content-Length: 500\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, redis: RedisServer, running_customer: HostileCustomer) -> Iterator[Gateway]:
    env = {"WEB_PROCESSES": "1", "WEB_THREADS": str(THREADS), "WEB_READ_TIMEOUT": f"{READ_TIMEOUT_S:g}s"}
    running = Gateway(
        customer_url=running_customer.url,
        postgres=postgres,
        redis=redis,
        redis_database=9,
        ENABLE_AUTH="true",
        SHARED_SECRET=SECRET,
        **env,
    )
    running.start(web=1, worker=0, beat=0)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def connect(gateway: Gateway) -> Iterator[Callable[[bytes], socket.socket]]:
    """Return a function that connects, sends the given bytes and then nothing more."""
    with ExitStack() as opened:

        def connected(sent: bytes = b"") -> socket.socket:
            sender = opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=10))
            sender.sendall(sent)
            return sender

        yield connected


Connect = Callable[..., socket.socket]


def answer_of(sender: socket.socket) -> bytes:
    """Return all bytes until the gateway closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := sender.recv(65536):
            received += piece
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def header_of(answer: bytes, name: str) -> str | None:
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    found = re.search(rf"^{name}: (.*?)\r?$", head, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else None


def error_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


# --- other senders do not wait ---


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD, id="half a head"),
        pytest.param(LENGTH + b'{"email": "', id="half a body"),
        pytest.param(CHUNKED + b'9\r\n{"email":', id="half of the chunks"),
        pytest.param(b"GET /static/unfold/css/styles.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20, id="no reader"),
        pytest.param(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), id="no hanging up"),
    ],
)
def test_stalled_senders_do_not_delay_others(gateway: Gateway, connect: Connect, sent: bytes) -> None:
    for _ in range(STALLED):
        connect(sent)

    results = [post(gateway, X_Shared_Secret=SECRET) for _ in range(8)]

    assert [result.status for result in results] == [200] * 8
    assert max(result.seconds for result in results) < READ_TIMEOUT_S, "a sender waited for the end of a stalled one"
    assert sorted(result.seconds for result in results)[4] < 0.5


# --- the server ends each one ---


def test_a_stalled_body_is_refused_with_408(connect: Connect) -> None:
    started = time.monotonic()
    answer = answer_of(connect(LENGTH + b'{"email": "'))

    assert READ_TIMEOUT_S * 0.9 < time.monotonic() - started < READ_TIMEOUT_S + SLACK_S
    assert (status_of(answer), error_of(answer)) == (408, "request timeout")


@pytest.mark.parametrize("sent", [b"", HEAD, HEALTH[:5]])
def test_the_connection_of_a_stalled_head_is_closed(gateway: Gateway, connect: Connect, sent: bytes) -> None:
    started = time.monotonic()

    assert answer_of(connect(sent)) == b""
    assert time.monotonic() - started < READ_TIMEOUT_S + SLACK_S
    assert "Traceback" not in gateway.logs("web")


@pytest.mark.parametrize(("begin", "drop"), [(HEAD + b"X-Slow: ", b"x"), (LENGTH, b" "), (CHUNKED, b"1\r\n \r\n")])
def test_single_bytes_do_not_extend_the_deadline(connect: Connect, begin: bytes, drop: bytes) -> None:
    sender = connect(begin)
    started = time.monotonic()

    with suppress(ConnectionError):
        while time.monotonic() - started < 5:
            sender.sendall(drop)
            sender.settimeout(0.1)  # the pause between two bytes
            with suppress(TimeoutError):
                sender.recv(65536)
                break

    assert READ_TIMEOUT_S * 0.9 < time.monotonic() - started < READ_TIMEOUT_S + SLACK_S


def test_one_byte_chunks_cost_little(gateway: Gateway, connect: Connect) -> None:
    """Without the limit, 262,144 chunks took 2 s of processor time."""
    body = json.dumps(payload(filling="x" * 262_000)).encode()
    crumbs = b"".join(b"1\r\n%c\r\n" % byte for byte in body[:262_144])
    sender = connect(CHUNKED)
    started = time.monotonic()

    with suppress(ConnectionError):
        sender.sendall(crumbs + b"0\r\n\r\n")
    answer = answer_of(sender)

    assert time.monotonic() - started < 3
    assert (status_of(answer), error_of(answer)) == (400, "malformed JSON payload")
    assert header_of(answer, "X-Error-Detail") == "the body comes in too many small chunks"


def test_an_idle_connection_may_outlast_the_read_timeout(connect: Connect) -> None:
    sender = connect(HEALTH)
    assert_is_well(sender)

    time.sleep(READ_TIMEOUT_S + 1.2)
    sender.sendall(HEALTH)

    assert_is_well(sender)


def assert_is_well(sender: socket.socket) -> None:
    answer = b""
    while not answer.endswith(b"OK"):
        piece = sender.recv(65536)
        assert piece
        answer += piece
    assert status_of(answer) == 200


# --- request heads ---


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 101, 431),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 8200, 431),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: localhost", 414),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: other", 400),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked", 400),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3", 400),
        (HEAD + b"X-Shared_Secret : 1", 400),
        (b"GET /health HTTP/9.9\r\nHost: localhost", 400),
    ],
)
def test_a_large_or_ambiguous_head_is_refused(connect: Connect, head: bytes, status: int) -> None:
    answer = answer_of(connect(head + b"\r\n\r\n"))

    assert status_of(answer) == status
    assert header_of(answer, "Content-Type") == "application/json"


# --- Expect: 100-continue ---


def expecting_continue(secret: str, size: int) -> bytes:
    head = HEAD.replace(SECRET.encode(), secret.encode())
    return head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % size


@pytest.mark.parametrize(("secret", "size", "status"), [("wrong", 100, 401), (SECRET, 10_000_000, 413)])
def test_a_request_is_refused_before_its_body_is_sent(connect: Connect, secret: str, size: int, status: int) -> None:
    answer = answer_of(connect(expecting_continue(secret, size)))

    assert status_of(answer) == status
    assert header_of(answer, "Connection") == "close"


def test_a_valid_request_gets_100_continue(connect: Connect) -> None:
    body = json.dumps(payload()).encode()
    sender = connect(expecting_continue(SECRET, len(body)))

    assert sender.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sender.sendall(body)

    assert status_of(sender.recv(65536)) == 200
