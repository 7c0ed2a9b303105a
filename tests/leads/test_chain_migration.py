"""A database with a trail from before there were chains is migrated, and every chain holds."""

import sqlite3

import psycopg
import pytest

from tests.e2e.gateway import manage
from tests.environment import of_a_process
from tests.processes import scratch_directory

_LEADS = 700  # more than one batch

_NUMBERS = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {_LEADS})"
_DETAIL = '{"b": [1.50, "é"], "a": 1}'
_OLD = [
    f"INSERT INTO inbound_lead (raw_payload) {_NUMBERS} SELECT '{{}}' FROM n",
    *(
        f"INSERT INTO lead_event (lead_id, kind, actor, detail) SELECT id, '{kind}', 'ä', '{_DETAIL}'"
        " FROM inbound_lead WHERE id <> 5"
        for kind in ("received", "duplicate", "mapped")
    ),
    "INSERT INTO lead_event (lead_id, kind, actor, detail) VALUES (NULL, 'exported', 'anna', '{}')",
]

_NEW = (
    "from leads.models import LeadEvent\n"
    "for lead in (1, 5, None):\n"
    "    LeadEvent.objects.create(lead_id=lead, kind='duplicate', actor='x')"
)


@pytest.fixture(params=["PostgreSQL", "SQLite"])
def old(request):
    """Return the environment of a gateway on such a database, and a function that runs a statement on it."""
    var = scratch_directory("old")
    if request.param == "SQLite":
        file = var / "old.sqlite3"
        yield of_a_process(DB_NAME=str(file), VAR_DIR=str(var)), lambda: sqlite3.connect(file)
        return
    server = request.getfixturevalue("postgres")
    server.create_database("old_trail")
    yield (
        of_a_process(**server.env, DB_NAME="old_trail", QUEUE_TYPE="database", VAR_DIR=str(var)),
        lambda: psycopg.connect(server.url_of("old_trail")),
    )
    server.drop_database("old_trail")


def test_old_events_are_linked_by_the_migration_and_new_ones_follow(old):
    env, connect = old
    manage(env, "migrate", "--verbosity=0", "leads", "0003_audit_browser")
    with connect() as connection:
        for statement in _OLD:
            connection.execute(statement)

    manage(env, "migrate", "--verbosity=0")

    manage(env, "shell", "-v", "0", "-c", _NEW)
    assert manage(env, "verify_trail") == f"{_LEADS + 1} trails checked, 0 broken.\n"
    with connect() as connection:
        heads = connection.execute("SELECT chain, events FROM trail_head WHERE chain < 7 ORDER BY chain").fetchall()
    assert heads == [(0, 2), (1, 4), (2, 3), (3, 3), (4, 3), (5, 1), (6, 3)]

    manage(env, "migrate", "--verbosity=0", "leads", "0003_audit_browser")  # and back
    manage(env, "migrate", "--verbosity=0")
    assert manage(env, "verify_trail") == f"{_LEADS + 1} trails checked, 0 broken.\n"
