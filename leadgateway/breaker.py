"""A breaker: after failures in a row, do not try for a moment: a dead neighbour should not cost everybody time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass
class Breaker:
    """Open for `pause` once `after` tries in a row have failed; then the next tries decide.

    Shared by threads: a race costs one more try, which is harmless.
    """

    pause: timedelta
    after: int = 3
    clock: Callable[[], float] = time.monotonic
    _failures: int = field(default=0, init=False)
    _open_until: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Tell whether to answer "not now" without trying."""
        return self.clock() < self._open_until

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures >= self.after:
            self._open_until = self.clock() + self.pause.total_seconds()

    def succeeded(self) -> None:
        """Note a success."""
        self._failures = 0

    def reset(self) -> None:
        """Close the breaker and forget its failures."""
        self._failures = 0
        self._open_until = 0.0
