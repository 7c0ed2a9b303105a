"""Messages to the workers. Each one asks for one or several leads to be processed. See `publishing`."""

from leadgateway.queue.publishing import QueueUnavailable, depth, depths, enqueue

__all__ = ["QueueUnavailable", "depth", "depths", "enqueue"]
