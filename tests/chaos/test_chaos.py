"""The short form of `make chaos`: ten seconds in which everything is killed at least once."""

import pytest

from tests.chaos.plan import ON_SERVERS, draw
from tests.chaos.run import Options, run

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(260)]

#: Its faults hit everything; those that lose doorbells come first, as a lost one is found after 30 s.
OPTIONS = Options(seed=15489, seconds=10, per_minute=600, every=1, timeout=100)


def test_nothing_is_lost_and_nothing_sent_twice_without_a_reason() -> None:
    planned = draw(OPTIONS.seed, seconds=OPTIONS.seconds, every=OPTIONS.every, targets=ON_SERVERS)
    assert {fault.target for fault in planned} == set(ON_SERVERS)

    result = run(OPTIONS, tell=print)  # shown when it fails

    audit = result.audit
    assert audit.problems == []
    assert audit.counts["lost"] == audit.counts["sent_again_unexplained"] == 0
    assert audit.counts["accepted"] == len(result.evidence.posted) > 80
    assert audit.counts["delivered"] > 60
    assert {outage.target for outage in result.outages} == set(ON_SERVERS)
    assert audit.statuses[0] + audit.statuses[503] > 0, "no sender noticed: the test shows nothing"
