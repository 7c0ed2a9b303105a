"""A circuit breaker for dependencies: after repeated failures, fail fast instead of letting every request time out."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass
class Breaker:
    """Open for `pause` after `after` failures in a row. Then the next call decides.

    Threads share a breaker without a lock: a race costs at most one more call.
    """

    pause: timedelta
    after: int = 3
    clock: Callable[[], float] = time.monotonic
    _failures: int = field(default=0, init=False)
    _open_until: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether to fail without calling the dependency."""
        return self.clock() < self._open_until

    def failed(self) -> None:
        """Record a failed call."""
        self._failures += 1
        if self._failures >= self.after:
            self._open_until = self.clock() + self.pause.total_seconds()

    def succeeded(self) -> None:
        """Record a successful call."""
        self._failures = 0

    def reset(self) -> None:
        """Close the breaker and forget its failures."""
        self._failures = 0
        self._open_until = 0.0
