"""The gateway before its first upgrade, as its database sees it: old tables, and senders who go on storing leads."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from tests.background import running_threads

#: The migration that brings about all the others which were there before one had to mind who is at work.
TABLES = ("stats", "0002_roles")

#: Delivered leads with an attempt and six events each.
_HISTORY = (
    """
    INSERT INTO inbound_lead (raw_payload, status, next_attempt_at, payload_hash, search_email, search_zipcode)
    SELECT jsonb_build_object('email', n || '@example.com', 'zipcode', '66123'),
        'DELIVERED', NULL, md5(n::text), n || '@example.com', '66123' FROM generate_series(1, %s) n
    """,
    """
    INSERT INTO delivery_attempt (lead_id, attempt_no, response_status, success, finished_at)
    SELECT id, 1, 200, true, now() FROM inbound_lead
    """,
    """
    INSERT INTO lead_event (lead_id, kind, from_status, to_status, actor)
    SELECT id, kind, from_status, to_status, 'worker' FROM inbound_lead, (VALUES
        (1, 'received', NULL, NULL), (2, 'status', 'RECEIVED', 'READY'), (3, 'mapped', NULL, NULL),
        (4, 'attempt_started', NULL, NULL), (5, 'attempt_finished', NULL, NULL), (6, 'status', 'READY', 'DELIVERED')
    ) AS step (nr, kind, from_status, to_status) ORDER BY id, nr
    """,
)


def fill(url: str, *, leads: int) -> None:
    """Write so many leads with what happened to them into the old tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _HISTORY:
            connection.execute(statement.encode(), [leads] if "%s" in statement else None)
        connection.execute("VACUUM ANALYZE")


@dataclass
class Storing:
    """What the senders noticed: when each of their transactions began, how long it took, and what failed."""

    began: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


@contextmanager
def senders(url: str, *, count: int, pause: float = 0.02) -> Iterator[Storing]:
    """Let so many senders store leads as the old version does, without end, while the block runs."""
    storing = Storing()

    def send(over: threading.Event) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(pause):
                began = time.monotonic()
                try:
                    _store(connection)
                except psycopg.Error as error:
                    storing.errors[type(error).__name__] += 1
                storing.began.append(began)
                storing.seconds.append(time.monotonic() - began)

    with running_threads(send, count=count):
        yield storing


def _store(connection: psycopg.Connection[tuple[int]]) -> None:
    with connection.transaction():
        lead = connection.execute("INSERT INTO inbound_lead (raw_payload) VALUES ('{}') RETURNING id").fetchone()
        connection.execute("INSERT INTO lead_event (lead_id, kind, actor) VALUES (%s, 'received', 'webhook')", lead)
