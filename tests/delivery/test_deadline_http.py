"""The private names of http.client, urllib3 and requests that `delivery.deadline_http` relies on.

A failure here means that a library has changed: read its new code before you adapt the overrides.
"""

import http.client
import inspect
import socket
import ssl
import time

import pytest
import requests
import urllib3.connection
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

from delivery import deadline_http
from delivery.deadline_http import DeadlineAdapter, DeadlineHTTPConnection, DeadlineHTTPSConnection, DeadlineTLSSocket
from tests.delivery.wire import Customer, answering

URLLIB3_CONNECTION = urllib3.connection.HTTPConnection
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("caller", "call"),
    [
        (HTTPAdapter.send, "self.get_connection_with_tls_context("),
        (urllib3.connectionpool.HTTPConnectionPool._new_conn, "self.ConnectionCls("),
        (urllib3.connectionpool.HTTPConnectionPool._make_request, "conn.timeout = Timeout.resolve_default_timeout("),
        (URLLIB3_CONNECTION.connect, "self.sock = self._new_conn()"),
        (URLLIB3_CONNECTION.getresponse, "super().getresponse()"),
        (http.client.HTTPConnection.getresponse, "self.response_class("),
        (http.client.HTTPResponse.begin, "self._read_status()"),
        (http.client.HTTPConnection.send, "self.sock.sendall("),
        (socket.SocketIO.readinto, "self._sock.recv_into("),
        (ssl.SSLContext.wrap_socket, "self.sslsocket_class._create("),
    ],
)
def test_the_libraries_call_what_is_overridden(caller, call):
    assert call in inspect.getsource(caller)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (http.client.HTTPResponse._read_status, ["self"]),
        (URLLIB3_CONNECTION._new_conn, ["self"]),
        (urllib3.connection.HTTPSConnection.connect, ["self"]),
        (HTTPAdapter.get_connection_with_tls_context, ["self", "request", "verify", "proxies", "cert"]),
    ],
)
def test_an_overridden_method_has_the_known_parameters(method, parameters):
    assert list(inspect.signature(method).parameters) == parameters


def test_urllib3_connects_to_its_private_host_name():
    assert "(self._dns_host, self.port)" in inspect.getsource(URLLIB3_CONNECTION._new_conn)


def test_a_connection_sends_without_delay_and_knows_its_deadline():
    with Customer(answering(OK)) as customer:
        connection = DeadlineHTTPConnection("127.0.0.1", customer.port, timeout=5)
        connection.connect()
        try:
            assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert 0 < connection.sock.deadline - time.monotonic() <= 5
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("url", "kind"), [("http://x/", DeadlineHTTPConnection), ("https://x/", DeadlineHTTPSConnection)]
)
def test_the_adapter_opens_connections_with_a_deadline(url, kind):
    request = requests.Request("POST", url).prepare()
    assert DeadlineAdapter().get_connection_with_tls_context(request, verify=True).ConnectionCls is kind


def test_tls_sockets_have_a_deadline_too():
    assert deadline_http.tls_context().sslsocket_class is DeadlineTLSSocket
