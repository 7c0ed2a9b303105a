"""The database backend that the settings name. Django looks for `DatabaseWrapper` in a module called `base`."""

from typing import Any

from django.db import OperationalError
from django.db.backends.postgresql import base

from leadgateway import db


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend, except that it does not wait for the pool after the thread's deadline."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection from the pool.

        Django asks for one even to roll back a transaction whose connection was closed.

        :raises django.db.OperationalError: at once when the thread's deadline has passed.
        """
        if db.is_time_up():
            raise OperationalError("the database deadline has passed")
        return super().get_new_connection(conn_params)
