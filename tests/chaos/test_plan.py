from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.plan import KINDS, ON_SERVERS, draw


def test_a_seed_determines_the_faults() -> None:
    first = draw(7, seconds=60, every=2, targets=ON_SERVERS)

    assert first == draw(7, seconds=60, every=2, targets=ON_SERVERS)
    assert first != draw(8, seconds=60, every=2, targets=ON_SERVERS)
    assert 20 <= len(first) <= 40


@given(st.integers(0, 10_000))
def test_every_kind_occurs_once_before_any_occurs_again(seed: int) -> None:
    kinds = {(target, kind) for target in ON_SERVERS for kind in KINDS[target]}
    faults = draw(seed, seconds=120, every=3, targets=ON_SERVERS)

    assert {(fault.target, fault.kind) for fault in faults[: len(kinds)]} == kinds


@given(st.integers(0, 10_000), st.floats(5, 100), st.floats(0.5, 5))
def test_faults_of_one_target_do_not_overlap(seed: int, seconds: float, every: float) -> None:
    of_target = defaultdict(list)
    for fault in draw(seed, seconds=seconds, every=every, targets=ON_SERVERS):
        assert 0 < fault.at < fault.at + fault.down <= seconds
        of_target[fault.target].append(fault)
    for faults in of_target.values():
        for earlier, later in pairwise(faults):
            assert earlier.at + earlier.down < later.at
