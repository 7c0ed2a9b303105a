from datetime import timedelta

import pytest

from leadgateway.breaker import Breaker


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def breaker(now):
    return Breaker(pause=timedelta(seconds=1), after=2, clock=lambda: now[0])


def test_a_breaker_opens_for_its_pause_after_failures_in_a_row(breaker, now):
    breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    now[0] += 0.99
    assert breaker.is_open
    now[0] += 0.02
    assert not breaker.is_open


def test_after_the_pause_one_failure_opens_it_again(breaker, now):
    breaker.failed()
    breaker.failed()
    now[0] += 1.01

    breaker.failed()

    assert breaker.is_open


def test_a_success_resets_the_count(breaker):
    breaker.failed()
    breaker.succeeded()
    breaker.failed()

    assert not breaker.is_open
