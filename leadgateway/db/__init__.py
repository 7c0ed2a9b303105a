"""PostgreSQL connections whose waits end at a deadline."""

from leadgateway.db.deadline import UNAVAILABLE, BoundedConnection, deadline, is_time_up

__all__ = ["UNAVAILABLE", "BoundedConnection", "deadline", "is_time_up"]
