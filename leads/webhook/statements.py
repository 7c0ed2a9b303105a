"""The SQL that stores leads: a whole batch in one statement on PostgreSQL, and in two on SQLite.

A batch is one JSON array, which takes both sides less time than arrays of columns or many parameters. The statements
must not fail for a known payload, because PostgreSQL logs the values of a row that violates a constraint.

Each function yields statements and receives their rows. Leads are given in the order of their hashes; two transactions
that insert the same hashes in different orders would deadlock.
"""
# ruff: noqa: S608 (the statements consist of constants)

from collections.abc import Generator, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from leads.models import EventKind

Rows = list[tuple[Any, ...]]


#: A statement and its parameters, in psycopg's notation, which Django understands for every database.
Statement = tuple[str, list[Any]]


class Repetition(NamedTuple):
    """A given lead whose payload hash a stored lead has."""

    idempotency_key: str
    lead_id: int
    status: str
    #: The stored lead is the given one: the connection was lost before its INSERT was confirmed.
    is_same: bool
    #: The stored lead is from before the deduplication window. Nothing was recorded.
    is_expired: bool


class Statements(Protocol):
    """What the two databases do differently."""

    def insert(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, Rows]:
        """Store the leads whose payload hash is new, with their events.

        :param leads: columns as a JSON object, by idempotency key.
        :return: idempotency key and id of each stored lead.
        """

    def record_repetitions(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, list[Repetition]]:
        """Record repetitions of stored leads, unless those have expired.

        :param leads: JSON objects by idempotency key, with idempotency_key, payload_hash, received_at, correlation_id
            and expired_before: the time before which a stored lead has expired.
        """


RELEASE_HASH = "UPDATE inbound_lead SET payload_hash = NULL WHERE id = %s"

_TIMES = ("received_at", "created_at", "updated_at", "next_attempt_at", "enqueued_at")
_TYPES = {
    "idempotency_key": "uuid",
    "payload_hash": "text",
    "correlation_id": "uuid",
    "raw_payload": "jsonb",
    "source_headers": "jsonb",
    "source": "text",
    "search_email": "text",
    "search_phone": "text",
    "search_zipcode": "text",
    "search_name": "text",
}
_COLUMNS = ", ".join([*_TIMES, *_TYPES])
_EVENT_COLUMNS = "lead_id, at, correlation_id, detail, kind, actor"


def statements_of(vendor: str) -> Statements:
    """Return the statements of a database: `postgresql` or `sqlite`."""
    return PostgreSQL() if vendor == "postgresql" else SQLite()


class PostgreSQL:
    """The statements of PostgreSQL."""

    _INSERT = f"""
        WITH given AS (
            SELECT * FROM jsonb_to_recordset(%s) AS given
            (received_at timestamptz, detail jsonb, {", ".join(f"{name} {kind}" for name, kind in _TYPES.items())})
        ), stored AS (
            INSERT INTO inbound_lead ({_COLUMNS})
            SELECT {", ".join(["received_at"] * len(_TIMES))}, {", ".join(_TYPES)} FROM given
            ON CONFLICT (payload_hash) DO NOTHING
            RETURNING id, idempotency_key
        ), event AS (
            INSERT INTO lead_event ({_EVENT_COLUMNS})
            SELECT id, received_at, correlation_id, detail, '{EventKind.RECEIVED}', 'webhook'
            FROM stored JOIN given USING (idempotency_key) ORDER BY id
        )
        SELECT replace(idempotency_key::text, '-', ''), id FROM stored"""

    # Rows are locked in the order of their ids, and before the ends of their hash chains, as everywhere.
    _RECORD_REPETITIONS = f"""
        WITH given AS (
            SELECT * FROM jsonb_to_recordset(%s) AS given
            (idempotency_key uuid, payload_hash text, received_at timestamptz, correlation_id uuid,
             expired_before timestamptz)
        ), first AS (
            SELECT id, status, payload_hash, received_at, idempotency_key FROM inbound_lead
            WHERE payload_hash IN (SELECT payload_hash FROM given) ORDER BY id FOR NO KEY UPDATE
        ), found AS (
            SELECT given.*, first.id, first.status,
                first.idempotency_key = given.idempotency_key AS is_same,
                first.received_at < given.expired_before AS is_expired
            FROM first JOIN given USING (payload_hash)
        ), repetition AS (
            SELECT * FROM found WHERE NOT is_same AND NOT is_expired
        ), repeated AS (
            UPDATE inbound_lead lead SET received_again_at = latest.at
            FROM (SELECT id, max(received_at) AS at FROM repetition GROUP BY id) latest WHERE lead.id = latest.id
        ), event AS (
            INSERT INTO lead_event ({_EVENT_COLUMNS})
            SELECT id, received_at, correlation_id, '{{}}', '{EventKind.DUPLICATE}', 'webhook'
            FROM repetition ORDER BY id, received_at
        )
        SELECT replace(idempotency_key::text, '-', ''), id, status, is_same, is_expired FROM found"""

    def insert(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, Rows]:
        """Store all of them with one statement, which is a transaction of its own."""
        return (yield self._INSERT, [_array(leads.values())])

    def record_repetitions(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, list[Repetition]]:
        """Record all of them with one statement."""
        rows = yield self._RECORD_REPETITIONS, [_array(leads.values())]
        return [Repetition(*row) for row in rows]


class SQLite:
    """The statements of SQLite. Those of a batch must run in one transaction, which locks the database."""

    #: The columns of a given lead, and its time without the zone, as Django stores it.
    _GIVEN = {name: f"json_extract(value, '$.{name}')" for name in [*_TYPES, "detail"]}
    _TIME = "substr(json_extract(value, '$.received_at'), 1, 26)"
    #: Given leads with the ids of stored ones.
    _NUMBERED = "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS value FROM json_each(%s))"

    _INSERT = f"""
        INSERT INTO inbound_lead ({_COLUMNS})
        SELECT {", ".join([_TIME] * len(_TIMES))}, {", ".join(map(_GIVEN.__getitem__, _TYPES))}
        FROM json_each(%s) WHERE true
        ON CONFLICT (payload_hash) DO NOTHING
        RETURNING idempotency_key, id"""
    _RECORD = f"""
        INSERT INTO lead_event ({_EVENT_COLUMNS})
        SELECT id, {_TIME}, {_GIVEN["correlation_id"]}, coalesce({_GIVEN["detail"]}, '{{}}'), %s, 'webhook'
        FROM {_NUMBERED}"""
    _FIND = f"""
        SELECT {_GIVEN["idempotency_key"]}, inbound_lead.id, status, idempotency_key = {_GIVEN["idempotency_key"]},
            received_at < substr(json_extract(value, '$.expired_before'), 1, 26)
        FROM json_each(%s) JOIN inbound_lead ON payload_hash = {_GIVEN["payload_hash"]}"""
    _UPDATE = f"""
        UPDATE inbound_lead SET received_again_at = latest.at
        FROM (SELECT id, max({_TIME}) AS at FROM {_NUMBERED} GROUP BY id) latest
        WHERE inbound_lead.id = latest.id"""

    def insert(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, Rows]:
        """Store the leads, then their events."""
        stored = yield self._INSERT, [_array(leads.values())]
        numbered = _array(f"[{lead_id},{leads[key]}]" for key, lead_id in stored)
        yield self._RECORD, [EventKind.RECEIVED, numbered]
        return stored

    def record_repetitions(self, leads: Mapping[str, str]) -> Generator[Statement, Rows, list[Repetition]]:
        """Find the stored leads, then update them, then record the events."""
        rows = yield self._FIND, [_array(leads.values())]
        found = [Repetition(*row) for row in rows]
        repeated = [row for row in found if not row.is_same and not row.is_expired]
        numbered = _array(f"[{row.lead_id},{leads[row.idempotency_key]}]" for row in repeated)
        yield self._UPDATE, [numbered]
        yield self._RECORD, [EventKind.DUPLICATE, numbered]
        return found


def _array(items: Iterable[str]) -> str:
    return f"[{','.join(items)}]"
