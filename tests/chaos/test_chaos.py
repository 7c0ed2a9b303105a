"""A short chaos run: ten seconds in which every target is killed at least once."""

import pytest

from tests.chaos.plan import ON_SERVERS, draw
from tests.chaos.run import Options, run

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(260)]

#: This seed hits every target. Faults that lose messages come first, because the sweep finds a lost one after 30 s.
OPTIONS = Options(seed=15489, seconds=10, per_minute=600, every=1, timeout=100)


def test_no_lead_is_lost_or_sent_twice_without_reason() -> None:
    planned = draw(OPTIONS.seed, seconds=OPTIONS.seconds, every=OPTIONS.every, targets=ON_SERVERS)
    assert {fault.target for fault in planned} == set(ON_SERVERS)

    result = run(OPTIONS, report=print)  # pytest shows it when the test fails

    audit = result.audit
    assert audit.problems == []
    assert audit.counts["lost"] == audit.counts["sent_again_unexplained"] == 0
    assert audit.counts["accepted"] == len(result.evidence.posted) > 80
    assert audit.counts["delivered"] > 60
    assert {outage.target for outage in result.outages} == set(ON_SERVERS)
    assert audit.statuses[0] + audit.statuses[503] > 0, "no sender noticed: the test proves nothing"
