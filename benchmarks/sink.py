"""A Customer API that costs as little CPU as possible: it accepts every lead and remembers when it came."""

import asyncio
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

_HEADER = re.compile(rb"^(content-length|connection|idempotency-key|x-correlation-id): *([^\r]*)", re.I | re.M)
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n" + b'{"status": "accepted"}'
)


@dataclass(frozen=True)
class Arrival:
    """A received lead. `at` is the time by time.monotonic()."""

    at: float
    idempotency_key: str
    correlation_id: str


class Sink:
    """Listens on a free port, in a thread of this process.

    with Sink() as sink:
        requests.post(sink.url, ...)
        assert len(sink.arrivals) == 1
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.url = ""
        self.transports: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_ids(self) -> set[str]:
        """Return the correlation ids of the received leads."""
        return {arrival.correlation_id for arrival in self.arrivals}

    def waits(self, accepted: Mapping[str, float]) -> list[float]:
        """Return the milliseconds from the response of the webhook to the arrival here, 0 if the lead came before.

        :param accepted: When each lead was answered, by its correlation id.
        """
        arrivals = {arrival.correlation_id: arrival.at for arrival in self.arrivals}
        return [max(0.0, arrivals[lead] - at) * 1000 for lead, at in accepted.items()]

    def _run(self) -> None:
        server = self._loop.run_until_complete(self._loop.create_server(lambda: _Connection(self), "127.0.0.1"))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._is_listening.set()
        self._loop.run_forever()
        server.close()
        for transport in self.transports:
            transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))  # the loop closes their sockets in its next round


class _Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sink.transports.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._sink.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            headers = {name.lower(): value for name, value in _HEADER.findall(self._received[: end + 1])}
            length = end + 4 + int(headers[b"content-length"])
            if len(self._received) < length:
                return
            self._received = self._received[length:]
            key, correlation_id = headers[b"idempotency-key"].decode(), headers[b"x-correlation-id"].decode()
            self._sink.arrivals.append(Arrival(time.monotonic(), key, correlation_id))
            self._transport.write(_RESPONSE)
            if headers.get(b"connection", b"").lower() == b"close":
                self._transport.close()
