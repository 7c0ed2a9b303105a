"""Write sets of numbers as ranges, such as `1-40, 44`."""

from collections.abc import Iterable
from itertools import groupby


def in_ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges, in ascending order."""
    runs = [list(run) for _, run in groupby(enumerate(sorted(set(numbers))), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(_range(run[0][1], run[-1][1]) for run in runs)


def numbers_in(ranges: str) -> set[int]:
    """Return the numbers in ranges that `in_ranges` returned."""
    found: set[int] = set()
    for part in filter(None, ranges.split(", ")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
