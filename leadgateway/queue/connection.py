"""Connections to the broker on which every wait ends after a timeout."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from kombu import Connection

from leadgateway.celery import app


def bounded_connection(timeout: timedelta, *, url: str | None = None) -> Connection:
    """Return a connection, not yet established. An error of it is not repeated.

    :param timeout: of each wait for a response. Connecting has half of it.
    :param url: another broker than that of the settings.
    """
    seconds = timeout.total_seconds()
    limits = _LIMITS[settings.QUEUE_TYPE](seconds)
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | limits
    return app.connection_for_write(url, transport_options=options, connect_timeout=seconds / 2)


def _limits_of_redis(timeout_s: float) -> dict[str, Any]:
    # kombu's channel reads `max_retries` here. kombu's publish reads it in its retry policy.
    return {
        "socket_connect_timeout": timeout_s / 2,
        "socket_timeout": timeout_s,
        "retry_on_timeout": False,
        "max_retries": 0,
    }


def _limits_of_rabbitmq(timeout_s: float) -> dict[str, Any]:
    # RabbitMQ confirms each message. Without that, a server that blocks publishers would not be noticed.
    return {
        "confirm_publish": True,
        "on_open": lambda connection: connection.transport.sock.settimeout(timeout_s),
        "max_retries": 0,
    }


#: kombu's options by QUEUE_TYPE. A message in a file waits for nothing.
_LIMITS: dict[str, Callable[[float], dict[str, Any]]] = {
    "redis": _limits_of_redis,
    "rabbitmq": _limits_of_rabbitmq,
    "database": lambda _timeout_s: {},
}
