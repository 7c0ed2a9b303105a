"""The hash chain of the trail: each event holds the hash of the one before it, so that none can change unnoticed.

The database itself links what is inserted, whoever inserts it (`leads.audit.chain_triggers`); this module says how a hash is made,
for those who check. The events of one lead are a chain, and so are the events of no lead.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

#: The chain of the events that belong to no lead, in place of a lead's id.
OF_NO_LEAD = 0

#: What stands before the first event of a chain.
CHAIN_START = ""

#: Microseconds always, as the triggers write it.
_TIME = "%Y-%m-%d %H:%M:%S.%f"

_READ_AT_ONCE = 2000


@dataclass(frozen=True)
class Event:
    """An event as its chain sees it. `detail` is the JSON as the database writes it."""

    id: int
    lead_id: int | None
    at: datetime
    kind: str
    from_status: str | None
    to_status: str | None
    actor: str
    correlation_id: UUID | None
    detail: str
    detail_salt: str | None
    detail_sha256: str | None
    previous: str | None
    hash: str | None

    @property
    def chain(self) -> int:
        """Return which chain it is in."""
        return self.lead_id or OF_NO_LEAD


def sha256(text: str) -> str:
    """Return the hash, in hex, of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def seal(salt: str, detail: str) -> str:
    """Return what stands for an event's detail in its hash.

    The salt is random and goes when the detail is erased: without it nobody can try out what the detail may have been.
    """
    return sha256(f"{salt}\n{detail}")


def hash_of(event: Event, *, previous: str, sealed_detail: str) -> str:
    """Return the hash of an event that follows the one whose hash is `previous`."""
    return sha256("\n".join([previous, *_told(event), sealed_detail]))


def is_unambiguous(event: Event) -> bool:
    """Tell whether the hash can mean this event only: with a line break in it, one field could look like two."""
    return not any("\n" in field for field in _told(event))


def _told(event: Event) -> list[str]:
    at = event.at.astimezone(UTC).strftime(_TIME)
    correlation_id = event.correlation_id.hex if event.correlation_id else ""
    steps = [event.from_status or "", event.to_status or ""]
    return [str(event.chain), at, event.kind, *steps, event.actor, correlation_id]


def read(events: "QuerySet[Any]") -> Iterator[Event]:
    """Yield events chain by chain, each in its order."""
    names = [field.name for field in fields(Event) if field.name != "detail"]
    rows = events.annotate(detail_text=Cast("detail", TextField())).order_by("lead_id", "id")
    for row in rows.values(*names, "detail_text").iterator(_READ_AT_ONCE):
        yield Event(detail=row.pop("detail_text"), **row)
