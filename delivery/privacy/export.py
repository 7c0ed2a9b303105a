"""Exports what is stored about a person, as they may ask for it (article 15 of the GDPR)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from delivery.models import BulkAction, DeliveryAttempt
from delivery.privacy.person import Person
from delivery.privacy.person_search import TEXTS_OF_A_LEAD, Found, texts_of_order
from leads.audit.number_ranges import numbers_in
from leads.models import EventKind, InboundLead, LeadEvent

#: What serves the machinery alone and says nothing of anybody.
_MACHINERY = ("claim_token", "claimed_until", "enqueued_at", "uncounted_attempts")
_CHAIN = ("lead_id", "detail_salt", "detail_sha256", "previous", "hash")


def everything_about(person: Person, found: Found) -> dict[str, Any]:
    """Return everything about a person, ready for JSON; of other people's leads what names them alone."""
    return {
        "asked_for": {"email": person.email, "phone": person.phone},
        "leads": [_lead(lead_id) for lead_id in sorted(found.theirs)],
        "named_in_leads_of_others": [_named_in(lead_id, person) for lead_id in sorted(found.others)],
        "named_in_notes_of_staff": _notes(found, person),
        "sent_to": _recipients(found),
        "seen_by": _readers(found),
    }


def _lead(lead_id: int) -> dict[str, Any]:
    row = InboundLead.objects.filter(pk=lead_id).values().get()
    return {
        **_without(row, _MACHINERY),
        "delivery_attempts": [_without(attempt, ("lead_id",)) for attempt in _attempts(lead_id)],
        "events": [_without(event, _CHAIN) for event in _events(lead_id)],
    }


def _named_in(lead_id: int, person: Person) -> dict[str, Any]:
    row = InboundLead.objects.filter(pk=lead_id).values("received_at", *TEXTS_OF_A_LEAD).get()
    parts = {name: person.parts_about(row[name]) for name in TEXTS_OF_A_LEAD}
    parts["customer_answers"] = person.parts_about(
        [text for attempt in _attempts(lead_id) for text in (attempt["response_body"], attempt["error_message"])]
    )
    parts["events"] = [part for event in _events(lead_id) for part in person.parts_about(event["detail"])]
    return {"received_at": row["received_at"], **{name: found for name, found in parts.items() if found}}


def _notes(found: Found, person: Person) -> list[Any]:
    orders = BulkAction.objects.filter(pk__in=found.orders).order_by("pk")
    events = LeadEvent.objects.filter(pk__in=found.events).order_by("pk")
    return [
        *(part for order in orders for part in person.parts_about(texts_of_order(order))),
        *(part for event in events for part in person.parts_about(event.detail)),
    ]


def _recipients(found: Found) -> list[dict[str, Any]]:
    """Return when the person's leads were sent to the customer; to whom is what the settings say today."""
    attempts = DeliveryAttempt.objects.filter(lead__in=found.theirs).order_by("requested_at", "pk")
    host = urlsplit(settings.CUSTOMER_API_URL).hostname
    return [
        {"recipient": host, "lead": attempt.lead_id, "at": attempt.requested_at, "taken": attempt.success}
        for attempt in attempts
    ]


def _readers(found: Found) -> list[dict[str, Any]]:
    """Return who of the staff has had the person's data shown or exported."""
    shown = LeadEvent.objects.filter(lead__in=found.leads, kind=EventKind.REVEALED).order_by("pk")
    exports = LeadEvent.objects.filter(lead=None, kind=EventKind.PERSON_EXPORTED).order_by("pk")
    return [
        *({"lead": event.lead_id, "who": event.actor, "at": event.at, "how": event.kind} for event in shown),
        *(
            {"lead": lead_id, "who": event.actor, "at": event.at, "how": event.kind}
            for event in exports
            for lead_id in sorted(_leads_of(event) & found.leads)
        ),
    ]


def _leads_of(event: LeadEvent) -> set[int]:
    return numbers_in(event.detail.get("leads", "")) | numbers_in(event.detail.get("leads_of_others", ""))


def _attempts(lead_id: int) -> list[Mapping[str, Any]]:
    return list(DeliveryAttempt.objects.filter(lead=lead_id).order_by("attempt_no").values())


def _events(lead_id: int) -> list[Mapping[str, Any]]:
    return list(LeadEvent.objects.filter(lead=lead_id).order_by("pk").values())


def _without(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
