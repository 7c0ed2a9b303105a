"""The ASGI application: the webhook on the event loop, everything else with Django in threads."""

import os

import django

from leadgateway.server.asgi_messages import Receive, Scope, Send

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402

from leadgateway.server.django_threads import DjangoInThreads  # noqa: E402
from leadgateway.server.signals import web_worker_started, web_worker_stopped  # noqa: E402
from leadgateway.server.webhook import PATHS, WebhookHandler  # noqa: E402

_webhook = WebhookHandler()
_others = DjangoInThreads(limit=settings.WEB_THREADS)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Handle a request, or the start and the end of the process."""
    if scope["type"] == "lifespan":
        await receive()
        await web_worker_started.asend(sender=None)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await web_worker_stopped.asend(sender=None)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] in PATHS:
        await _webhook(scope, receive, send)
    else:
        await _others(scope, receive, send)
