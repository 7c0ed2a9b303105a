import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from leadgateway import db

pytestmark = [pytest.mark.needs_postgres, pytest.mark.django_db(transaction=True)]


def test_a_transaction_ends_at_its_deadline():
    began = time.monotonic()

    with pytest.raises(OperationalError), db.deadline(timedelta(milliseconds=300)), transaction.atomic():
        wait_s(10)

    assert 0.3 <= time.monotonic() - began < 3, "the pool itself waits for 5 s"


def test_the_next_transaction_gets_a_connection():
    with pytest.raises(OperationalError), db.deadline(timedelta(milliseconds=100)), transaction.atomic():
        wait_s(10)

    with transaction.atomic():
        wait_s(0)


def test_no_connection_is_taken_after_the_deadline():
    connection.close()

    with db.deadline(timedelta()), pytest.raises(OperationalError, match="the database deadline has passed"):
        connection.ensure_connection()


def wait_s(seconds):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
