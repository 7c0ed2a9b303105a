"""The web server in a thread of the test: real connections, while the test changes settings and reads the database."""

import asyncio
import json
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
import uvloop

WEBHOOK = "/webhooks/leads"


class WebServer:
    """The application behind the protocol of a web process, on one event loop."""

    def __init__(self, sock: socket.socket) -> None:
        from leadgateway.asgi import application
        from leadgateway.server.worker import SenderProtocol, _TrustedHosts

        SenderProtocol.trusted_proxies = _TrustedHosts("127.0.0.1")
        self.port: int = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._socket = sock
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=SenderProtocol,
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                timeout_keep_alive=65,  # as in production; a slow test must not reuse a connection that is being closed
            )
        )
        self._session = requests.Session()
        self._session.trust_env = False

    def ask(self, path: str, method: str = "GET", **request: Any) -> requests.Response:
        """Send a request, as `requests.request` does."""
        return self._session.request(method, self.url + path, **{"timeout": 30, "allow_redirects": False, **request})

    def post(self, body: Any, path: str = WEBHOOK, **headers: str) -> requests.Response:
        """Post a lead. Bytes are sent unchanged. `X_Shared_Secret=...` sets the header X-Shared-Secret."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask(path, "POST", data=data, headers={key.replace("_", "-"): headers[key] for key in headers})

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def serve(self, started: threading.Event) -> None:
        """Serve until `stop`."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        from leads.webhook.access import close_limiter
        from leads.webhook.view import LeadWebhook, Writer

        of_another_server = getattr(LeadWebhook, "writer", None)
        writer = LeadWebhook.writer = Writer()
        await writer.start()
        started.set()  # the socket is listening
        await self._server.serve(sockets=[self._socket])
        await writer.stop()
        if of_another_server:
            LeadWebhook.writer = of_another_server
        else:
            await close_limiter()  # belongs to the event loop of the first server

    def stop(self) -> None:
        """Stop serving."""
        self._session.close()
        self._server.should_exit = True


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a web server while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = WebServer(sock)
        started = threading.Event()
        thread = threading.Thread(target=server.serve, args=[started])
        thread.start()
        try:
            assert started.wait(30)
            yield server
        finally:
            server.stop()
            thread.join()
