"""The PostgreSQL backend, whose waits end at a deadline."""

from leadgateway.timeouts import UNAVAILABLE, deadline, is_time_up

__all__ = ["UNAVAILABLE", "deadline", "is_time_up"]
