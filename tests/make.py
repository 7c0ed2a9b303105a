"""Builders of rows for the tests. Every argument is optional and has an ordinary default."""

import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from delivery.models import DeliveryAttempt
from leads.audit.recording import record
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import normalize
from leads.webhook.intake import NewLead, Receipt, prepare, store_all
from leads.webhook.strict_json import ParsedObject

#: Phone number and product of the example in the specification.
PHONE = "+49123456789"
PRODUCT = "solar_panel_installation"

#: A time for events whose exact time does not matter.
NOON = datetime(2026, 1, 21, 12, 0, tzinfo=UTC)

_numbers = itertools.count(1)

#: Statuses of leads that have been normalized and mapped.
_MAPPED = {LeadStatus.READY, LeadStatus.DELIVERED, LeadStatus.FAILED, LeadStatus.PERMANENTLY_FAILED}
_CLOSED = {LeadStatus.REJECTED, LeadStatus.DELIVERED, LeadStatus.PERMANENTLY_FAILED}


def payload(changes: Mapping[str, Any] | None = None, /, **more: Any) -> dict[str, Any]:
    """Return the example payload of the specification with a new e-mail address, so that it is no duplicate.

    A field that is set to `...` is left out.
    """
    fields: dict[str, Any] = {
        "email": f"lead{next(_numbers)}@example.com",
        "phone": PHONE,
        "zipcode": "66123",
        "house": {"is_owner": True},
    }
    fields |= {**(changes or {}), **more}
    return {name: value for name, value in fields.items() if value is not ...}


def customer_payload(**changes: Any) -> dict[str, Any]:
    """Return the customer payload of `payload()`."""
    return {"phone": PHONE, "product": {"name": PRODUCT}, "attributes": []} | changes


def lead(**columns: Any) -> InboundLead:
    """Store a lead. By default it was received now and is due. Other columns fit its `status`."""
    status = columns.setdefault("status", LeadStatus.RECEIVED)
    raw = columns.setdefault("raw_payload", payload())
    columns.setdefault("correlation_id", uuid.uuid4())
    columns.setdefault("idempotency_key", uuid.uuid4())
    if status in _MAPPED:
        columns.setdefault("normalized_payload", normalize(raw))
        columns.setdefault("customer_payload", customer_payload())
        columns.setdefault("mapping_sha256", "0" * 64)
    if status in _CLOSED:
        columns.setdefault("next_attempt_at", None)
    if status == LeadStatus.REJECTED:
        columns.setdefault("rejection_reason", "ZIP_NOT_66XXX")
    return InboundLead.objects.create(**columns)


def new_lead(payload_or_parsed: dict[str, Any] | ParsedObject | None = None, /, **fields: Any) -> NewLead:
    """Return a lead as the webhook passes it to the writer, received now."""
    parsed = payload_or_parsed or payload()
    if isinstance(parsed, dict):
        parsed = ParsedObject(parsed, ())
    defaults = {"headers": {}, "source": None, "correlation_id": str(uuid.uuid4()), "received_at": timezone.now()}
    return NewLead(parsed, **{**defaults, **fields})


def receive(new: NewLead, *, dedup_window: timedelta) -> Receipt:
    """Store a lead as the writer does, on the connection of the test."""
    row = prepare(new, dedup_window=dedup_window)
    return store_all([row], dedup_window=dedup_window)[row.idempotency_key]


def attempt(lead: InboundLead | None = None, **columns: Any) -> DeliveryAttempt:
    """Store the next attempt of a lead. By default the customer responded with 503.

    `finished_at=None` makes an attempt with unknown outcome.
    """
    of = lead or make_lead(status=LeadStatus.FAILED)
    columns.setdefault("attempt_no", DeliveryAttempt.objects.filter(lead=of).count() + 1)
    columns.setdefault("requested_at", NOON)
    columns.setdefault("finished_at", columns["requested_at"])
    if columns["finished_at"] is not None:
        columns.setdefault("response_status", 503)
        columns.setdefault("duration_ms", 120)
        columns.setdefault("success", 200 <= (columns["response_status"] or 0) < 300)
    return DeliveryAttempt.objects.create(lead=of, **columns)


def event(lead: InboundLead | None = None, kind: EventKind = EventKind.RECEIVED, **columns: Any) -> LeadEvent:
    """Record an event of a lead."""
    recorded_for = lead or make_lead()
    arguments: dict[str, Any] = {"actor": "webhook", "now": NOON, **columns}
    record(recorded_for, kind, **arguments)
    return LeadEvent.objects.filter(lead=recorded_for).latest("id")


make_lead = lead  # `lead` is also the name of an argument
