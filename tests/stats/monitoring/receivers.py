"""The receivers of alerts in tests: a real mail server and a real web server, which refuse on request."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from tests.http_server import Answer, Post, http_server
from tests.processes import free_port

logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd logs every line of the protocol


@dataclass
class Mailbox:
    """A mail server and the mails that it received. With `refuses` it accepts none."""

    url: str
    refuses: bool = False
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        if self.refuses:
            return "451 try again later"
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@dataclass
class Hook:
    """A webhook and the JSON that it received. It responds with `status`."""

    url: str = ""
    status: int = 200
    posts: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Run a mail server."""
    port = free_port()
    box = Mailbox(f"smtp://127.0.0.1:{port}")
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@contextmanager
def hook() -> Iterator[Hook]:
    """Run a web server that accepts JSON."""
    found = Hook()

    def take(post: Post) -> Answer:
        if found.status < 300:
            found.posts.append(json.loads(post.body))
        return Answer(found.status, headers={"Location": f"{found.url}elsewhere"})

    with http_server(take) as url:
        found.url = f"{url}/services/T0/secret-of-the-hook"
        yield found
