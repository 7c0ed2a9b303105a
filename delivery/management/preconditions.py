"""Check that the database or the queue is available before a command starts."""

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from leadgateway import dependencies

_FOLDER_ADVICE = "Give this user write permission for the folder, or set VAR_DIR to another folder."


def require_database() -> None:
    """Return if the database is available.

    :raises CommandError: it is not; the message says which database, why, and what to do.
    """
    if problem := dependencies.database_problem():
        raise CommandError(f"The database cannot be used: {problem}.\n{_database_advice()}")


def require_queue() -> None:
    """Return if the queue is available.

    :raises CommandError: it is not; the message says which queue, why, and what to do.
    """
    if problem := dependencies.queue_problem():
        raise CommandError(f"The queue cannot be used: {problem}.\n{_queue_advice()}")


def _database_advice() -> str:
    if connection.vendor == "sqlite":
        return _FOLDER_ADVICE
    return (
        f"Configured: {dependencies.database_name()}.\n"
        "Start the server, or correct DB_HOST, DB_USER, DB_PASSWORD, DB_NAME or DATABASE_URL.\n"
        "Without DB_HOST and DATABASE_URL, SQLite is used, which needs no server."
    )


def _queue_advice() -> str:
    if settings.QUEUE_TYPE == "database":
        return _FOLDER_ADVICE
    setting = "REDIS_URL" if settings.QUEUE_TYPE == "redis" else "QUEUE_URL"
    return (
        f"Configured: {dependencies.queue_name()}.\n"
        f"Start the server, or correct {setting}.\n"
        "With QUEUE_TYPE=database, no broker is needed."
    )
