"""A customer made of raw sockets. Each test gives it a function that handles a connection."""

import contextlib
import functools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

Behaviour = Callable[[socket.socket], None]


class Customer:
    """Listens on a free port of the loopback interface and runs `behave` for each connection in a thread of its own."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/lead/receive/"

    def __enter__(self) -> "Customer":
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._run(functools.partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client may close at any time
            self.behave(connection)


def read_request(connection: socket.socket) -> tuple[list[str], bytes]:
    """Return the request line with the headers, and the body of a request with a Content-Length."""
    with connection.makefile("rb") as stream:
        head: list[str] = []
        while line := stream.readline().decode("latin-1").rstrip("\r\n"):
            head.append(line)
        length = next((int(line.split(":")[1]) for line in head if line.lower().startswith("content-length:")), 0)
        return head, stream.read(length)


def answering(response: bytes) -> Behaviour:
    """Read the whole request, send these bytes, close."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response)

    return behave


def dripping(start: bytes, piece: bytes = b"x", pause: float = 0.02, *, read: bool = True) -> Behaviour:
    """Send `start` at once, then `piece` repeatedly without end."""

    def behave(connection: socket.socket) -> None:
        if read:
            read_request(connection)
        else:
            connection.recv(1)
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return behave


def reset(connection: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def over_tls(certificate: str, key: str, behave: Behaviour) -> Behaviour:
    """Return the same behaviour with TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def behave_in_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            behave(secured)

    return behave_in_tls


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Yield the port of a listener that never accepts and whose queue is full: a SYN to it gets no response."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def refused_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
