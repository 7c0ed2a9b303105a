"""An HTTP adapter whose exchange ends at one deadline, also on a connection that is used again.

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

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

#: How long an idle connection may be used again. Common servers close them after 5 s or more.
MAX_IDLE_S = 4.0


class DeadlineAdapter(HTTPAdapter):
    """Sends requests, from any number of threads. A connection that the server keeps open is used again."""

    def __init__(self, connections: int = 1) -> None:
        """Create an adapter.

        :param connections: the maximum number of idle connections.
        """
        super().__init__(pool_connections=1, pool_maxsize=connections)
        self._pools: dict[str | None, HTTPConnectionPool] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> HTTPConnectionPool:
        pool = self._pools.get(request.url)
        if pool is None:
            pool = cast(HTTPConnectionPool, super().get_connection_with_tls_context(request, *args, **kwargs))
            pool.ConnectionCls = DeadlineHTTPSConnection if pool.scheme == "https" else DeadlineHTTPConnection
            self._pools[request.url] = pool
        return pool


class IdleConnectionClosedError(ConnectionError):
    """The server has closed a connection that was used again, before the first byte of its response."""


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
    #: The socket of the present exchange if it was used before.
    _reused: "DeadlineSocket | None" = None

    @property
    def is_connected(self) -> bool:
        """Whether an idle connection can be used again. urllib3 asks before each request."""
        return super().is_connected and cast(DeadlineSocket, self.sock).idle_s < MAX_IDLE_S

    def request(self, *args: Any, **kwargs: Any) -> None:
        sock = cast(DeadlineSocket | None, self.sock)
        self._reused = sock if sock is not None and sock.received_at is not None else None
        if self._reused is not None:
            self._reused.renew(time.monotonic() + cast(float, self.timeout))
        try:
            super().request(*args, **kwargs)
        except ssl.SSLError as error:  # after other errors urllib3 looks for a response
            self._report_closed_connection(error)
            raise

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except (OSError, http.client.RemoteDisconnected) as error:
            self._report_closed_connection(error)
            raise

    def _report_closed_connection(self, error: Exception) -> None:
        """Raise IdleConnectionClosedError if this error of an exchange means that."""
        if self._reused is not None and not self._reused.has_received and not isinstance(error, TimeoutError):
            raise IdleConnectionClosedError from error

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
    #: When data was last received, by time.monotonic().
    received_at: float | None = None
    #: Whether a byte of the present response has arrived.
    has_received = False

    def renew(self, deadline: float) -> None:
        """Prepare the socket for a further exchange."""
        self.deadline, self.has_received = deadline, False

    @property
    def idle_s(self) -> float:
        """The seconds since data was last received."""
        return time.monotonic() - (self.received_at or 0.0)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(time_left(self.deadline))
        received = super().recv_into(*args, **kwargs)
        if received:
            self.received_at, self.has_received = time.monotonic(), True
        return received

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


def was_idle_connection_closed(error: BaseException | None) -> bool:
    """Return whether this led to an error of requests, which wraps its causes."""
    while error is not None and not isinstance(error, IdleConnectionClosedError):
        error = error.__cause__ or error.__context__
    return error is not None


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
