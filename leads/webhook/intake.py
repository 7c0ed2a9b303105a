"""Store a lead: one row and one event, committed before the sender gets a response."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from leads.audit.recording import record
from leads.models import EventKind, InboundLead, LeadStatus
from leads.normalization import search_keys
from leads.webhook.strict_json import ParsedObject

#: Maximum number of INSERTs. Another request can release the payload hash between our INSERT and our SELECT.
_TRIES = 5


@dataclass(frozen=True)
class Receipt:
    """The result for the sender."""

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
    """Store a new lead, or record a repetition of a lead that was received within `dedup_window`.

    The payload hash is unique in the database, so parallel requests with the same payload create one lead. The caller
    must enqueue a new lead; its `enqueued_at` is set already and must be cleared when enqueueing fails.

    :param headers: without credentials, see `leads.webhook.headers`.
    :param dedup_window: zero makes every request a new lead.
    :raises django.db.Error: nothing is stored, unless the error occurred in COMMIT.
    """
    digest = payload_hash(parsed.payload) if dedup_window else None
    keys = search_keys(parsed.payload)
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
        search_email=keys.email,
        search_phone=keys.phone,
        search_zipcode=keys.zipcode,
        search_name=keys.name,
    )
    detail = {"notes": list(parsed.notes)} if parsed.notes else {}
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                lead.save(force_insert=True)
                correlation = lead.correlation_id
                record(lead, EventKind.RECEIVED, actor="webhook", now=now, correlation_id=correlation, detail=detail)
            return Receipt(lead_id=lead.pk, status=LeadStatus.RECEIVED, duplicate=False)
        except IntegrityError:
            if digest is None:
                raise
            if receipt := _record_duplicate(digest, lead.correlation_id, now=now, dedup_window=dedup_window):
                return receipt
            lead.pk = None
    raise IntegrityError(f"the payload hash was taken and released {_TRIES} times")


def payload_hash(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of the canonical JSON: sorted keys, no white space, UTF-8.

    `1` and `1.0` are different payloads.
    """
    canonical = json.dumps(dict(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _record_duplicate(
    digest: str, correlation_id: uuid.UUID, *, now: datetime, dedup_window: timedelta
) -> Receipt | None:
    """Record a repetition of the lead with this hash. Return None when the hash is free by now.

    A lead from before the window gives up its hash.
    """
    leads = InboundLead.objects.filter(payload_hash=digest)
    first = leads.only("id", "status", "received_at", "correlation_id").first()
    if first is None:
        return None
    if first.received_at < now - dedup_window:
        leads.filter(pk=first.pk).update(payload_hash=None)
        return None
    with transaction.atomic():
        leads.filter(pk=first.pk).update(received_again_at=now)
        record(first, EventKind.DUPLICATE, actor="webhook", now=now, correlation_id=correlation_id)
    return Receipt(lead_id=first.pk, status=first.status, duplicate=True)
