"""Plan the faults of a chaos run. The seed determines all of them before the run, so that a run can be repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: The kinds of faults of each target. An outage of the customer affects all requests, in addition to random failures.
KINDS: dict[str, tuple[str, ...]] = {
    "web": ("killed",),
    "worker": ("one killed", "all killed"),
    "beat": ("killed",),
    "Redis": ("killed", "killed and wiped"),
    "PostgreSQL": ("killed",),
    "messages": ("deleted",),
    "customer": ("answers 503", "hangs", "resets"),
}
ON_SERVERS = ("web", "worker", "beat", "Redis", "PostgreSQL", "customer")
#: SQLite runs inside the processes, and the messages are files.
EMBEDDED = ("web", "worker", "beat", "messages", "customer")

#: Maximum number of seconds until a target is started again.
_LONGEST_DOWN = 3.0
#: Seconds before the first fault, and between the last fault and the end of the load.
_MARGIN = 1.0
#: Seconds without faults after a target was started again.
_PAUSE = 2.0


@dataclass(frozen=True)
class Fault:
    """A fault of a target, `at` seconds after the start of the load. The target is down for `down` seconds."""

    at: float
    target: str
    kind: str
    down: float


def draw(seed: int, *, seconds: float, every: float, targets: Sequence[str]) -> list[Fault]:
    """Return the faults of a load in the order of their times.

    Every kind of every target occurs once before any occurs again, if there is time. Faults of different targets
    overlap. Faults of one target do not.

    :param seconds: Duration of the load.
    :param every: Average number of seconds between two faults.
    """
    dice = random.Random(seed)
    kinds = [(target, kind) for target in targets for kind in KINDS[target]]
    faults: list[Fault] = []
    remaining: list[tuple[str, str]] = []
    up_again = dict.fromkeys(targets, 0.0)
    moment = _MARGIN
    while moment + _MARGIN < seconds:
        remaining = remaining or dice.sample(kinds, len(kinds))
        chosen = next((pair for pair in remaining if up_again[pair[0]] <= moment), None)
        if chosen is not None:
            remaining.remove(chosen)
            fault = Fault(moment, *chosen, down=dice.uniform(0.1, min(_LONGEST_DOWN, seconds - moment)))
            up_again[fault.target] = moment + fault.down + _PAUSE
            faults.append(fault)
        moment += dice.uniform(0.2 * every, 1.8 * every)
    return faults
