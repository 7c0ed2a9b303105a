"""A breaker: after a failure, do not try again for a moment, so that a dead neighbour costs one caller's time only."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass
class Breaker:
    """Open for `pause` after `trip`. Shared by threads: a race costs one more try, which is harmless."""

    pause: timedelta
    clock: Callable[[], float] = time.monotonic
    _open_until: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Tell whether to answer "not now" without trying."""
        return self.clock() < self._open_until

    def trip(self) -> None:
        """Note a failure."""
        self._open_until = self.clock() + self.pause.total_seconds()
