"""The status machine: `change_leads` is the only function that changes the status of leads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from leadgateway.db.rows import as_table, columns_of
from leads.audit.recording import build_event, record_all
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus

S = LeadStatus

#: Automatic transitions. FAILED -> FAILED is another failed attempt of a lead that is retried.
AUTOMATIC: dict[str, frozenset[str]] = {
    S.RECEIVED: frozenset({S.REJECTED, S.READY}),
    S.READY: frozenset({S.DELIVERED, S.FAILED, S.PERMANENTLY_FAILED}),
    S.FAILED: frozenset({S.DELIVERED, S.FAILED, S.PERMANENTLY_FAILED}),
    S.REJECTED: frozenset(),
    S.DELIVERED: frozenset(),
    S.PERMANENTLY_FAILED: frozenset(),
}

#: Further transitions for operators: READY to redeliver, RECEIVED to reprocess the raw payload.
BY_OPERATOR: dict[str, frozenset[str]] = {
    S.REJECTED: frozenset({S.RECEIVED}),
    S.FAILED: frozenset({S.READY, S.RECEIVED}),
    S.DELIVERED: frozenset({S.READY}),
    S.PERMANENTLY_FAILED: frozenset({S.READY, S.RECEIVED}),
}

#: The columns by which a changed row is found.
_KEY = {f"old_{name}": field for name, field in columns_of(InboundLead, "id", "status", "claim_token").items()}


class TransitionNotAllowed(Exception):
    """The status machine does not allow this transition."""


class ClaimLost(Exception):
    """Another worker has claimed the lead: the result of this worker must not be written."""


@dataclass(frozen=True)
class LeadChange:
    """What happens to one lead in one step."""

    lead: InboundLead
    to: LeadStatus | None = None
    """None: the status stays."""
    claim: UUID | None = None
    """The row changes only while it belongs to the claim of this token; None: whatever its claim."""
    detail: dict[str, Any] | None = None
    """Of the status event: codes and parameters."""
    events_before: Sequence[LeadEvent] = ()
    """Unsaved events of the same step, recorded before the status event."""
    events_after: Sequence[LeadEvent] = ()
    """The same, recorded after the status event."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further columns to set, by name."""
    old: str = ""
    """The present status; the default is the status of `lead`."""

    @property
    def old_status(self) -> LeadStatus:
        """The status that the row must have."""
        return LeadStatus(self.old or self.lead.status)

    def update_object(self, *, now: datetime) -> None:
        """Set the new values in `lead`. Call this after the commit."""
        for name, value in {"status": self.to or self.old_status, "updated_at": now, **self.columns}.items():
            setattr(self.lead, name, value)


def change_leads(changes: Sequence[LeadChange], *, actor: str, now: datetime, by_operator: bool = False) -> None:
    """Change leads and record the events in a transaction: one UPDATE for each set of columns, and one INSERT.

    A transition to the same status records no status event. The objects do not change, see `update_object`.

    :param changes: of different leads, in the order of their ids (see `record_all`).
    :raises TransitionNotAllowed: the status machine does not allow one of them.
    :raises ClaimLost: a row has another status, or belongs to another claim. Roll the transaction back.
    """
    events: list[LeadEvent] = []
    by_columns: dict[tuple[str, ...], list[LeadChange]] = defaultdict(list)
    for change in changes:
        by_columns[tuple(change.columns)].append(change)
        events += change.events_before
        old, to = change.old_status, change.to
        if to is not None and to not in AUTOMATIC[old] | (BY_OPERATOR.get(old, frozenset()) if by_operator else set()):
            raise TransitionNotAllowed(f"{old} -> {to}")
        if to is not None and to != old:
            event = build_event(
                change.lead, EventKind.STATUS, actor=actor, now=now, from_status=old, to_status=to, detail=change.detail
            )
            events.append(event)
        events += change.events_after
    with transaction.atomic(savepoint=False):
        for columns, group in by_columns.items():
            _update(group, columns, now=now)
        if events:
            record_all(events)


def change_status(
    lead: InboundLead, to: LeadStatus, *, actor: str, now: datetime, by_operator: bool = False, **change: Any
) -> None:
    """Change the status of one lead, in the database and in the object.

    :param change: further attributes of `LeadChange`.
    :raises TransitionNotAllowed, ClaimLost: as `change_leads`.
    """
    changed = LeadChange(lead, to, **change)
    change_leads([changed], actor=actor, now=now, by_operator=by_operator)
    changed.update_object(now=now)


def _update(changes: Sequence[LeadChange], columns: Sequence[str], *, now: datetime) -> None:
    """Change rows that set the same columns."""
    fields = columns_of(InboundLead, "status", "updated_at", *columns)
    table, parameters = as_table(
        _KEY | fields,
        [
            (change.lead.pk, old := change.old_status, change.claim, change.to or old, now, *change.columns.values())
            for change in changes
        ],
    )
    assignments = ", ".join(f"{name} = new.{name}" for name in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE inbound_lead SET {assignments} FROM {table}"  # noqa: S608 (names of columns)
            " WHERE inbound_lead.id = new.old_id AND inbound_lead.status = new.old_status"
            " AND (new.old_claim_token IS NULL OR inbound_lead.claim_token = new.old_claim_token)",
            parameters,
        )
        if cursor.rowcount != len(changes):
            raise ClaimLost(f"{len(changes) - cursor.rowcount} of {len(changes)} leads")
