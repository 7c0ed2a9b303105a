"""The hash chain of the audit log: each event's hash covers the hash of the previous one, so that changes are detected.

The events of each lead are a chain, and so are the events that belong to no lead. Triggers link inserted events
(`leads.audit.chain_triggers`). This module computes the same hashes for verification.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from leads.models import LeadEvent

#: The chain of events that belong to no lead; other chains have their lead's id.
OF_NO_LEAD = 0

#: What the first event of a chain has instead of the hash of a previous event.
CHAIN_START = ""

#: Always with microseconds, as in the triggers.
_TIME = "%Y-%m-%d %H:%M:%S.%f"

_BATCH_SIZE = 2000


@dataclass(frozen=True)
class Event:
    """An event with the columns that its hash covers. `detail` is JSON in the database's notation."""

    id: int
    lead_id: int | None
    at: datetime
    kind: str
    from_status: str | None
    to_status: str | None
    actor: str
    correlation_id: UUID | None
    detail: str
    detail_salt: UUID | None
    detail_sha256: str | None
    hash: str | None

    @property
    def chain(self) -> int:
        """The chain that the event belongs to."""
        return self.lead_id or OF_NO_LEAD


def sha256(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def seal(salt: UUID, detail: str) -> str:
    """Return the hash that represents an event's detail in the hash of the event.

    The salt is random and is erased with the detail. Without it, the detail cannot be guessed from the hash.
    """
    return sha256(f"{salt.hex}\n{detail}")


def hash_of(event: Event, *, previous: str, sealed_detail: str) -> str:
    """Return the hash of an event that follows the event with the hash `previous`."""
    return sha256("\n".join([previous, *_hashed_fields(event), sealed_detail]))


def is_unambiguous(event: Event) -> bool:
    """Return whether the hash identifies only this event: with a line break, one field could look like two."""
    return not any("\n" in field for field in _hashed_fields(event))


def _hashed_fields(event: Event) -> list[str]:
    at = event.at.astimezone(UTC).strftime(_TIME)
    correlation_id = event.correlation_id.hex if event.correlation_id else ""
    statuses = [event.from_status or "", event.to_status or ""]
    return [str(event.chain), at, event.kind, *statuses, event.actor, correlation_id]


def read(events: "QuerySet[LeadEvent]") -> Iterator[Event]:
    """Yield events by chain, in the order of each chain."""
    names = [field.name for field in fields(Event) if field.name != "detail"]
    rows = events.annotate(detail_text=Cast("detail", TextField())).order_by("lead_id", "id")
    for row in rows.values(*names, "detail_text").iterator(_BATCH_SIZE):
        yield Event(detail=row.pop("detail_text"), **row)
