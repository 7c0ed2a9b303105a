"""Takes a lead in: one row, one event, committed before the sender gets an answer."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from leads.audit.recording import record
from leads.models import EventKind, InboundLead, LeadStatus
from leads.normalization import search_keys
from leads.webhook.strict_json import ParsedObject, payload_hash

#: A row that gives up its hash between two looks makes us look again; it cannot go on for long.
_TRIES = 5


@dataclass(frozen=True)
class Receipt:
    """What the sender is told."""

    lead_id: int
    status: str
    duplicate: bool


def receive(
    parsed: ParsedObject,
    *,
    headers: dict[str, str],
    source: str | None = None,
    correlation_id: str,
    now: datetime,
    dedup_window: timedelta,
) -> Receipt:
    """Store a lead, or recognise it as one that was received within `dedup_window` (zero: every post is a new lead).

    The unique hash in the database decides, so of any number of parallel posts one makes the lead. The new lead
    counts as rung for: the caller rings, and if that fails, clears `enqueued_at`.

    :param headers: already without the values of credentials.
    :raises django.db.Error: nothing is stored, unless the answer to the COMMIT itself was lost.
    """
    digest = payload_hash(parsed.payload) if dedup_window else None
    lead = InboundLead(
        received_at=now,
        created_at=now,
        updated_at=now,
        next_attempt_at=now,
        enqueued_at=now,
        raw_payload=parsed.payload,
        source_headers=headers,
        source=source,
        payload_hash=digest,
        correlation_id=uuid.UUID(correlation_id),
        idempotency_key=uuid.uuid4(),
        **{f"search_{name}": value for name, value in vars(search_keys(parsed.payload)).items()},
    )
    for _ in range(_TRIES):
        try:
            return _store(lead, notes=list(parsed.notes))
        except IntegrityError:
            if digest is None:
                raise
            if receipt := _receive_again(digest, correlation_id=correlation_id, now=now, dedup_window=dedup_window):
                return receipt
            lead.pk = None
    raise IntegrityError("the payload's hash changes hands without end")


def _store(lead: InboundLead, *, notes: list[str]) -> Receipt:
    with transaction.atomic():
        lead.save(force_insert=True)
        detail = {"notes": notes} if notes else {}
        record(lead, EventKind.RECEIVED, actor="webhook", now=lead.received_at, detail=detail)
    return Receipt(lead_id=lead.pk, status=LeadStatus.RECEIVED, duplicate=False)


def _receive_again(digest: str, *, correlation_id: str, now: datetime, dedup_window: timedelta) -> Receipt | None:
    """Book the post on the lead that has the hash; None when there is none any more, or it was too old and let go."""
    holders = InboundLead.objects.filter(payload_hash=digest)
    first = holders.only("id", "status", "received_at", "correlation_id").first()
    if first is None:
        return None
    if first.received_at < now - dedup_window:
        holders.filter(pk=first.pk).update(payload_hash=None)
        return None
    with transaction.atomic():
        holders.filter(pk=first.pk).update(received_again_at=now)
        record(first, EventKind.DUPLICATE, actor="webhook", now=now, correlation_id=uuid.UUID(correlation_id))
    return Receipt(lead_id=first.pk, status=first.status, duplicate=True)
