"""The status machine: `change_status` is the only function that changes a lead's status."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

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


class TransitionNotAllowed(Exception):
    """The status machine does not allow this transition."""


class ClaimLost(Exception):
    """Another worker has claimed the lead: the result of this worker must not be written."""


def change_status(
    lead: InboundLead,
    to: LeadStatus,
    *,
    actor: str,
    now: datetime,
    claim: UUID | None = None,
    by_operator: bool = False,
    detail: dict[str, Any] | None = None,
    events_before: Sequence[LeadEvent] = (),
    events_after: Sequence[LeadEvent] = (),
    **columns: Any,
) -> None:
    """Change a lead's status and record the event, with one UPDATE and one INSERT in a transaction.

    The row changes only while it has the status of `lead` and, with `claim`, still belongs to the claim of that token.
    A transition to the same status records no status event.

    :param detail: of the status event: codes and parameters.
    :param events_before: unsaved events of the same step, recorded before the status event.
    :param events_after: the same, recorded after the status event.
    :param columns: further columns to set, by name.
    :raises TransitionNotAllowed: the status machine does not allow it.
    :raises ClaimLost: the row has changed since `lead` was read, or belongs to another claim.
    """
    old = LeadStatus(lead.status)
    allowed = AUTOMATIC[old] | (BY_OPERATOR.get(old, frozenset()) if by_operator else frozenset())
    if to not in allowed:
        raise TransitionNotAllowed(f"{old} -> {to}")
    row = InboundLead.objects.filter(pk=lead.pk, status=old)
    if claim is not None:
        row = row.filter(claim_token=claim)
    events = [*events_before, *events_after]
    if to != old:
        event = build_event(lead, EventKind.STATUS, from_status=old, to_status=to, actor=actor, now=now, detail=detail)
        events.insert(len(events_before), event)
    with transaction.atomic(savepoint=False):
        if row.update(status=to, updated_at=now, **columns) != 1:
            raise ClaimLost(f"lead {lead.pk}")
        if events:
            record_all(events)
    for name, value in {"status": to, "updated_at": now, **columns}.items():
        setattr(lead, name, value)
