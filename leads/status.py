"""The status machine: the one function through which a lead's status changes, and the trail's one way in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus

S = LeadStatus

#: What the gateway itself may do. FAILED -> FAILED is the next failed attempt of a lead that waits.
AUTOMATIC: dict[str, frozenset[str]] = {
    S.RECEIVED: frozenset({S.REJECTED, S.READY}),
    S.READY: frozenset({S.DELIVERED, S.FAILED, S.PERMANENTLY_FAILED}),
    S.FAILED: frozenset({S.DELIVERED, S.FAILED, S.PERMANENTLY_FAILED}),
    S.REJECTED: frozenset(),
    S.DELIVERED: frozenset(),
    S.PERMANENTLY_FAILED: frozenset(),
}

#: What an operator may order on top: READY to deliver again, RECEIVED to start over from the raw payload.
BY_OPERATOR: dict[str, frozenset[str]] = {
    S.REJECTED: frozenset({S.RECEIVED}),
    S.FAILED: frozenset({S.READY, S.RECEIVED}),
    S.DELIVERED: frozenset({S.READY}),
    S.PERMANENTLY_FAILED: frozenset({S.READY, S.RECEIVED}),
}


class TransitionNotAllowed(Exception):
    """The status machine knows no such step."""


class ClaimLost(Exception):
    """Somebody else works on the lead by now: what this worker found out must not be written."""


def lock(lead_id: int) -> None:
    """Lock a lead's row until the commit, for who records an event before the row is changed.

    An event locks the end of the lead's chain. Everybody locks the row first; a second order would be a deadlock.
    """
    InboundLead.objects.select_for_update(no_key=True).filter(pk=lead_id).values_list("pk").first()


def record(
    lead: InboundLead,
    kind: EventKind,
    *,
    actor: str,
    now: datetime,
    correlation_id: UUID | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an event to the trail of a lead whose row is locked, or will not be changed in this transaction.

    `detail` must hold codes and reasons, never personal data.
    """
    LeadEvent.objects.create(
        lead_id=lead.pk,
        kind=kind,
        actor=actor,
        at=now,
        correlation_id=correlation_id or lead.correlation_id,
        detail=detail or {},
    )


def record_system_event(kind: EventKind, *, actor: str, now: datetime, detail: dict[str, Any]) -> None:
    """Add an event that is about many leads, and so belongs to none. `detail` as for `record`."""
    LeadEvent.objects.create(kind=kind, actor=actor, at=now, detail=detail)


def change_status(
    lead: InboundLead,
    to: LeadStatus,
    *,
    actor: str,
    now: datetime,
    claimed_by: UUID | None = None,
    by_operator: bool = False,
    detail: dict[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Move the lead to `to`, set `columns` with it, and write the event, in one transaction.

    The row changes only if it still has the status that `lead` was read with and, when `claimed_by` is given,
    still belongs to that claim. Staying in a status writes no event.

    :raises TransitionNotAllowed: the machine knows no such step.
    :raises ClaimLost: somebody else was faster.
    """
    was = LeadStatus(lead.status)
    allowed = AUTOMATIC[was] | (BY_OPERATOR.get(was, frozenset()) if by_operator else frozenset())
    if to not in allowed:
        raise TransitionNotAllowed(f"{was} -> {to}")
    row = InboundLead.objects.filter(pk=lead.pk, status=was)
    if claimed_by is not None:
        row = row.filter(claim_token=claimed_by)
    with transaction.atomic(savepoint=False):
        if row.update(status=to, updated_at=now, **columns) != 1:
            raise ClaimLost(f"lead {lead.pk}")
        if to != was:
            LeadEvent.objects.create(
                lead_id=lead.pk,
                kind=EventKind.STATUS,
                from_status=was,
                to_status=to,
                actor=actor,
                at=now,
                correlation_id=lead.correlation_id,
                detail=detail or {},
            )
    for name, value in {"status": to, "updated_at": now, **columns}.items():
        setattr(lead, name, value)
