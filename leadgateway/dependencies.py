"""Check whether the database and the queue can be reached, and describe the problem for an operator.

Every check takes a few seconds at most, and no description contains a password.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.conf import settings
from django.db import connection
from kombu import Connection

from leadgateway.logging import redact
from leadgateway.queue.connection import bounded_connection

_TIMEOUT = timedelta(seconds=2)


def database_name() -> str:
    """Return the type and address of the database, without credentials."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"SQLite, {shown_path(Path(database['NAME']))}"
    return f"PostgreSQL, {database['NAME']} at {database['HOST'] or 'the local socket'}:{database['PORT'] or 5432}"


def queue_name() -> str:
    """Return the type and address of the queue, without credentials."""
    if settings.QUEUE_TYPE == "database":
        return "the database, no broker (QUEUE_TYPE=database)"
    if settings.QUEUE_TYPE == "rabbitmq":
        return f"RabbitMQ at {urlsplit(settings.QUEUE_URL).netloc.rpartition('@')[2]}"
    if settings.REDIS_URL.startswith("sentinel://"):
        hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in settings.REDIS_URL.split(";")]
        return f"Redis, through the sentinels at {', '.join(hosts)}"
    parts = urlsplit(settings.REDIS_URL)
    address = parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2] or "localhost:6379"
    return f"Redis at {address}"


def shown_path(path: Path) -> str:
    """Return a path, relative to the checkout when it is inside."""
    return str(path.relative_to(settings.BASE_DIR)) if path.is_relative_to(settings.BASE_DIR) else str(path)


def database_problem() -> str | None:
    """Return why the database cannot be used, or None when it can."""
    if connection.vendor == "sqlite":
        return _file_problem(Path(connection.settings_dict["NAME"]))
    try:
        # Without the pool, whose errors do not contain the server's reason.
        psycopg.connect(**connection.get_connection_params()).close()
    except psycopg.Error as error:
        return reason(error)
    return None


def queue_problem() -> str | None:
    """Return why the queue cannot be used, or None when it can."""
    if settings.QUEUE_TYPE == "database":
        return folder_problem(Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"]))
    try:
        with broker() as connected:
            channel: Any = connected.default_channel
            if settings.QUEUE_TYPE == "redis":
                channel.client.ping()
    except Exception as error:  # noqa: BLE001 (redis-py, kombu and the socket raise different types)
        return reason(error)
    return None


@contextmanager
def broker() -> Iterator[Connection]:
    """Connect to the broker with short timeouts."""
    with bounded_connection(_TIMEOUT, url=settings.CELERY_BROKER_URL) as connected:
        yield connected


def redis_client(connected: Connection) -> Any:
    """Return the redis-py client of a connection from `broker`."""
    channel: Any = connected.default_channel
    return channel.client


def folder_problem(folder: Path) -> str | None:
    """Return why no file can be written into a folder, or None when one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{shown_path(folder)} cannot be written to ({error.strerror})"


def _file_problem(file: Path) -> str | None:
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        return f"{shown_path(file)} cannot be written to"
    return folder_problem(file.parent)  # SQLite writes its write-ahead log beside the file


def reason(error: Exception) -> str:
    """Return the first line of an error, shortened and without credentials."""
    text = redact(str(error).strip()) or type(error).__name__
    with suppress(ValueError):
        text = text[text.rindex("failed: ") + len("failed: ") :].strip() or text
    return text
