"""Store leads: a row and an event for each, committed before the sender gets a response."""

import hashlib
import json
import uuid
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction

from leads.models import LeadStatus
from leads.normalization import search_keys
from leads.webhook.statements import RELEASE_HASH, Rows, Statement, statements_of
from leads.webhook.strict_json import ParsedObject

#: Maximum number of INSERTs. Another request can release a payload hash between our INSERT and our SELECT.
_TRIES = 5

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class NewLead:
    """A lead as the webhook received it."""

    parsed: ParsedObject
    #: Without credentials, see `leads.webhook.headers`.
    headers: dict[str, str]
    #: The name of the sender's secret; None without authentication.
    source: str | None
    #: A UUID.
    correlation_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result for the sender."""

    lead_id: int
    status: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class LeadRow:
    """A new lead, ready for the statements that store it."""

    #: Identifies the row before it has an id. UUIDs are in hex.
    idempotency_key: str
    #: None: the lead is stored even when its payload is known.
    payload_hash: str | None
    received_at: datetime
    correlation_id: str
    #: All columns as a JSON object.
    columns: str

    def repetition(self, dedup_window: timedelta) -> str:
        """Return the columns that are needed to record a repetition, as a JSON object."""
        columns = {
            "idempotency_key": self.idempotency_key,
            "payload_hash": self.payload_hash,
            "received_at": _text(self.received_at),
            "correlation_id": self.correlation_id,
            "expired_before": _text(self.received_at - dedup_window),
        }
        return json.dumps(columns)


def prepare(lead: NewLead, *, dedup_window: timedelta) -> LeadRow:
    """Return the row of a lead.

    :param dedup_window: zero makes it a new lead even when its payload is known.
    """
    payload = _canonical_json(lead.parsed.payload)
    digest = _sha256(payload) if dedup_window else None
    keys = search_keys(lead.parsed.payload)
    idempotency_key = uuid.uuid4().hex
    correlation_id = lead.correlation_id.replace("-", "")
    columns = {
        "idempotency_key": idempotency_key,
        "payload_hash": digest,
        "received_at": _text(lead.received_at),
        "correlation_id": correlation_id,
        "source_headers": lead.headers,
        "source": lead.source,
        "search_email": keys.email,
        "search_phone": keys.phone,
        "search_zipcode": keys.zipcode,
        "search_name": keys.name,
        "detail": {"notes": lead.parsed.notes} if lead.parsed.notes else {},
    }
    return LeadRow(
        idempotency_key=idempotency_key,
        payload_hash=digest,
        received_at=lead.received_at,
        correlation_id=correlation_id,
        columns=f'{{"raw_payload":{payload},{json.dumps(columns)[1:]}',  # the payload is JSON already
    )


def payload_hash(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of the canonical JSON: sorted keys, no white space, UTF-8.

    `1` and `1.0` are different payloads.
    """
    return _sha256(_canonical_json(payload))


def storing(
    rows: Iterable[LeadRow], receipts: dict[str, Receipt], *, dedup_window: timedelta
) -> Generator[Statement, Rows, None]:
    """Store new leads, and record repetitions of leads that were received within `dedup_window`.

    Yields the statements to run and receives their rows, so that threads and event loops share the algorithm. Running
    a statement twice is harmless while leads are deduplicated. The payload hash is unique in the database, so parallel
    requests with the same payload create one lead. The caller must enqueue new leads; their `enqueued_at` is set
    already and must be cleared when enqueueing fails.

    :param receipts: gets the receipt of each lead, by idempotency key, as soon as the lead is stored.
    :raises django.db.IntegrityError: a payload hash was taken and released again and again.
    """
    statements = statements_of(connection.vendor)
    # Two transactions that insert the same hash wait for each other. Inserting in one order, they cannot deadlock.
    left = sorted(rows, key=lambda row: row.payload_hash or "")
    for _ in range(_TRIES):
        for key, lead_id in (yield from statements.insert({row.idempotency_key: row.columns for row in left})):
            receipts[key] = Receipt(lead_id, LeadStatus.RECEIVED, duplicate=False)
        if not (left := [row for row in left if row.idempotency_key not in receipts]):
            return
        given = {row.idempotency_key: row.repetition(dedup_window) for row in left}
        for found in (yield from statements.record_repetitions(given)):
            if found.is_expired:
                yield RELEASE_HASH, [found.lead_id]
            else:
                status = LeadStatus.RECEIVED if found.is_same else found.status
                receipts[found.idempotency_key] = Receipt(found.lead_id, status, duplicate=not found.is_same)
        if not (left := [row for row in left if row.idempotency_key not in receipts]):
            return
    raise IntegrityError(f"a payload hash was taken and released {_TRIES} times")


def store_all(rows: Iterable[LeadRow], *, dedup_window: timedelta) -> dict[str, Receipt]:
    """Store leads in one transaction on the connection of this thread, and return their receipts by idempotency key.

    The parameters and errors are those of `storing`.

    :raises django.db.Error: nothing is stored, unless the error occurred in COMMIT.
    """
    receipts: dict[str, Receipt] = {}
    steps = storing(rows, receipts, dedup_window=dedup_window)
    with transaction.atomic(), connection.cursor() as cursor, suppress(StopIteration):
        statement = next(steps)
        while True:
            cursor.execute(*statement)
            statement = steps.send(cursor.fetchall() if cursor.description else [])
    return receipts


def _canonical_json(payload: Mapping[str, Any]) -> str:
    return _CANONICAL.encode(dict(payload))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
