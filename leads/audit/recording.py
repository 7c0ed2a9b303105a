"""Record events in the audit log.

The database links each inserted event to its hash chain (`leads.audit.chain_triggers`) and locks the end of that chain
until the commit. Lock a lead's row before you record an event for it: a transaction that takes the two locks in the
other order can deadlock with this one.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from leadgateway.db.rows import as_table, columns_of
from leads.models import EventKind, InboundLead, LeadEvent

_COLUMNS = columns_of(
    LeadEvent, "lead_id", "at", "kind", "from_status", "to_status", "actor", "correlation_id", "detail"
)


def build_event(
    lead: InboundLead,
    kind: EventKind,
    *,
    actor: str,
    now: datetime,
    from_status: str | None = None,
    to_status: str | None = None,
    correlation_id: UUID | None = None,
    detail: dict[str, Any] | None = None,
) -> LeadEvent:
    """Return an event of a lead without saving it.

    :param correlation_id: of the request that caused the event, if it is not the lead's.
    :param detail: codes and parameters, never sentences and never personal data. Empty values are left out.
    """
    return LeadEvent(
        lead_id=lead.pk,
        kind=kind,
        from_status=from_status,
        to_status=to_status,
        actor=actor,
        at=now,
        correlation_id=correlation_id,
        detail=given_values(detail),
    )


def given_values(detail: dict[str, Any] | None) -> dict[str, Any]:
    """Return a detail without its empty values."""
    return {name: value for name, value in (detail or {}).items() if value not in (None, [], {})}


def record_all(events: Iterable[LeadEvent]) -> None:
    """Save events with one INSERT, in their order.

    Give the events of several leads in the order of the leads' ids: transactions that lock the ends of several hash
    chains in different orders can deadlock.
    """
    rows = [[getattr(event, field.attname) for field in _COLUMNS.values()] for event in events]
    table, parameters = as_table(_COLUMNS, rows)
    names = ", ".join(_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO lead_event ({names}) SELECT {names} FROM {table}", parameters)  # noqa: S608


def record(
    lead: InboundLead,
    kind: EventKind,
    *,
    actor: str,
    now: datetime,
    correlation_id: UUID | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record one event of a lead. The parameters are those of `build_event`."""
    build_event(lead, kind, actor=actor, now=now, correlation_id=correlation_id, detail=detail).save(force_insert=True)


def record_system_event(kind: EventKind, *, actor: str, now: datetime, detail: dict[str, Any]) -> None:
    """Record an event that concerns many leads and belongs to none of them. `detail` is as for `build_event`."""
    LeadEvent.objects.create(kind=kind, actor=actor, at=now, detail=detail)
