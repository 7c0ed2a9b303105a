"""An HTTP adapter whose exchange ends at one deadline and that opens a connection for each request.

The timeouts of requests and urllib3 start again with every piece of data that arrives, so a server that sends one byte
at a time could occupy a worker forever. Here the timeout of `DeadlineAdapter.send` covers the whole exchange: name
lookup, TCP connection, TLS handshake, request and response. The sockets set the remaining time before every receive
and send.

Every override of another library's private names is in this module; tests/delivery/test_deadline_http.py pins them.
"""

import functools
import http.client
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from typing import Any, cast

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool


class DeadlineAdapter(HTTPAdapter):
    """Sends one request on a connection of its own: never on an idle one that the server has closed in the meantime."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        pool = cast(HTTPConnectionPool, super().get_connection_with_tls_context(*args, **kwargs))
        pool.ConnectionCls = DeadlineHTTPSConnection if pool.scheme == "https" else DeadlineHTTPConnection
        return pool


class FinalResponse(http.client.HTTPResponse):
    """A response that waits for the final status. The standard library takes 102 and 103 for final ones."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        while http.HTTPStatus.SWITCHING_PROTOCOLS < status < http.HTTPStatus.OK:
            http.client.parse_headers(self.fp)
            version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, status, reason


class DeadlineHTTPConnection(HTTPConnection):
    """A connection whose `timeout` is for the whole exchange, from the name lookup on."""

    response_class = FinalResponse

    def _new_conn(self) -> "DeadlineSocket":
        """Connect to the first address of the host that accepts. Each gets an equal share of the remaining time.

        :raises OSError: the error of the last address. `socket.gaierror`: there is no address. `TimeoutError`: the
            deadline has passed.
        """
        deadline = time.monotonic() + cast(float, self.timeout)
        addresses = _look_up(self._dns_host, self.port, deadline)
        problem: OSError | None = None
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = DeadlineSocket(family, kind, protocol)
            sock.deadline = deadline
            try:
                sock.settimeout(time_left(deadline) / (len(addresses) - index))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # send headers and body without delay
                sock.settimeout(time_left(deadline))  # for the TLS handshake
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        raise problem or TimeoutError


class DeadlineHTTPSConnection(DeadlineHTTPConnection, HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        # urllib3's own method loads the CA certificates again for every connection.
        connection = self._new_conn()
        tls = cast(DeadlineTLSSocket, tls_context().wrap_socket(connection, server_hostname=self.host))
        tls.deadline = connection.deadline
        self.sock = tls
        self.is_verified = True


class DeadlineSocket(socket.socket):
    """A socket whose receives and sends end at one deadline, a time of `time.monotonic()`.

    `http.client` calls only these two methods.
    """

    deadline: float

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(time_left(self.deadline))
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(time_left(self.deadline))
        super().sendall(*args, **kwargs)


class DeadlineTLSSocket(DeadlineSocket, ssl.SSLSocket):
    """The same with TLS, where `sendall` is one call to OpenSSL within the socket's timeout."""


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the context that verifies certificates and host names, against the CAs of requests and of the machine.

    A private CA of the customer can be added to the machine's store, or with SSL_CERT_FILE. Loading takes tens of
    milliseconds, so the context is made once.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = DeadlineTLSSocket
    return context


def _look_up(host: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
    """Return the addresses of a host. The lookup runs in a thread, because the system's resolver takes no timeout.

    After the deadline the thread ends when the resolver gives up (about 30 s, see resolv.conf). It sends nothing.
    """
    found: Future[list[tuple[Any, ...]]] = Future()

    def look_up() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            found.set_exception(error)

    threading.Thread(target=look_up, name="customer-lookup", daemon=True).start()
    return found.result(timeout=time_left(deadline))


def time_left(deadline: float) -> float:
    """Return the seconds until the deadline; never 0, which would make a socket non-blocking.

    :raises TimeoutError: the deadline has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
