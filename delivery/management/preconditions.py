"""What a command needs before it begins, refused in a sentence or two when it is not there."""

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from leadgateway import dependencies

_FOLDER_ADVICE = "Give this user the right to write there, or set VAR_DIR to another folder."


def require_database() -> None:
    """Go on only with a database.

    :raises CommandError: there is none; says which it was to be, why not, and what to do.
    """
    if problem := dependencies.database_problem():
        raise CommandError(f"The database cannot be used: {problem}.\n{_database_advice()}")


def require_queue() -> None:
    """Go on only with a queue.

    :raises CommandError: there is none; says which it was to be, why not, and what to do.
    """
    if problem := dependencies.queue_problem():
        raise CommandError(f"The queue cannot be used: {problem}.\n{_queue_advice()}")


def _database_advice() -> str:
    if connection.vendor == "sqlite":
        return _FOLDER_ADVICE
    return (
        f"It was to be {dependencies.database_name()}.\n"
        "Start it, or mend DB_HOST, DB_USER, DB_PASSWORD, DB_NAME or DATABASE_URL.\n"
        "With neither DB_HOST nor DATABASE_URL set, SQLite is used: no server is needed."
    )


def _queue_advice() -> str:
    if settings.QUEUE_TYPE == "redis":
        return (
            f"It was to be {dependencies.queue_name()}. Start it, or mend REDIS_URL.\n"
            "With QUEUE_TYPE=database no Redis is needed."
        )
    return _FOLDER_ADVICE
