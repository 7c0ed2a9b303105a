"""The database back end that the settings name; Django looks for `DatabaseWrapper` in a module `base`."""

from typing import Any

from django.db import OperationalError
from django.db.backends.postgresql import base

from leadgateway import db


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, which leaves the pool alone when there is no time left to wait for it."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Take a connection from the pool.

        Django asks for one even to end a transaction whose connection was thrown away.

        :raises django.db.OperationalError: at once, when the thread's deadline has passed.
        """
        if db.is_time_up():
            raise OperationalError("the time for the database is up")
        return super().get_new_connection(conn_params)
