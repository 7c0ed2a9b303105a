"""Messages to the workers: each one says "look at lead 123". See `publishing`."""

from leadgateway.queue.publishing import QueueUnavailable, depth, depths, enqueue

__all__ = ["QueueUnavailable", "depth", "depths", "enqueue"]
