"""What is done to what, and when: drawn from a seed before anything starts, so that a run can be repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: What may happen to whom. A customer's outage is for everybody; what it does to some requests comes on top.
WAYS: dict[str, tuple[str, ...]] = {
    "web": ("killed",),
    "worker": ("one killed", "all killed"),
    "beat": ("killed",),
    "Redis": ("killed", "killed and wiped"),
    "PostgreSQL": ("killed",),
    "doorbells": ("wiped",),
    "customer": ("answers 503", "hangs", "resets"),
}
ON_SERVERS = ("web", "worker", "beat", "Redis", "PostgreSQL", "customer")
#: SQLite is a part of the processes; the doorbells are files.
EMBEDDED = ("web", "worker", "beat", "doorbells", "customer")

#: Seconds that something stays down before it is started again.
_LONGEST_DOWN = 3.0
#: Seconds before the first fault, and between the last one and the end of the load.
_CALM = 1.0
#: Seconds in which what was started again is left alone.
_REST = 2.0


@dataclass(frozen=True)
class Fault:
    """At `at` seconds after the load has begun, this happens to the target, which stays down for `down` seconds."""

    at: float
    target: str
    way: str
    down: float


def draw(seed: int, *, seconds: float, every: float, targets: Sequence[str]) -> list[Fault]:
    """Return the faults of a load of so many seconds, the first first, `every` seconds on average.

    Every way of every target comes once before any comes again, as far as the time allows. Faults of different
    targets overlap; those of one target do not.
    """
    dice = random.Random(seed)
    ways = [(target, way) for target in targets for way in WAYS[target]]
    faults: list[Fault] = []
    waiting: list[tuple[str, str]] = []
    up_again = dict.fromkeys(targets, 0.0)
    moment = _CALM
    while moment + _CALM < seconds:
        waiting = waiting or dice.sample(ways, len(ways))
        chosen = next((one for one in waiting if up_again[one[0]] <= moment), None)
        if chosen is not None:
            waiting.remove(chosen)
            fault = Fault(moment, *chosen, down=dice.uniform(0.1, min(_LONGEST_DOWN, seconds - moment)))
            up_again[fault.target] = moment + fault.down + _REST
            faults.append(fault)
        moment += dice.uniform(0.2 * every, 1.8 * every)
    return faults
