import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from leadgateway import db
from leadgateway.timeouts import Breaker


def test_a_breaker_opens_for_its_pause_after_failures_in_a_row():
    now = 100.0
    breaker = Breaker(pause=timedelta(seconds=1), after=2, clock=lambda: now)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open

    breaker.failed()
    assert breaker.is_open
    now += 0.99
    assert breaker.is_open
    now += 0.02
    assert not breaker.is_open

    breaker.failed()
    assert breaker.is_open, "after the pause, one failure is enough"


@pytest.mark.needs_postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(60)
def test_a_transaction_ends_at_its_deadline_and_the_next_one_gets_a_connection():
    started = time.monotonic()

    with pytest.raises(OperationalError), db.deadline(timedelta(milliseconds=300)), transaction.atomic():
        sleep_in_database(10)

    assert time.monotonic() - started >= 0.3
    with transaction.atomic():
        sleep_in_database(0)


@pytest.mark.needs_postgres
@pytest.mark.django_db(transaction=True)
def test_no_connection_is_taken_after_the_deadline():
    connection.close()

    with db.deadline(timedelta()), pytest.raises(OperationalError, match="the database deadline has passed"):
        connection.ensure_connection()


def sleep_in_database(seconds):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
