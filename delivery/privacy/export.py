"""Export the data of a person (article 15 of the GDPR)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from delivery.models import BulkAction, DeliveryAttempt
from delivery.privacy.person import Person
from delivery.privacy.person_search import ATTEMPT_TEXT_COLUMNS, LEAD_TEXT_COLUMNS, Occurrences, bulk_action_texts
from leads.audit.number_ranges import numbers_in
from leads.models import EventKind, InboundLead, LeadEvent

#: Columns that are only used by the workers, or only protect the audit log.
_INTERNAL_LEAD_COLUMNS = ("claim_token", "claimed_until", "enqueued_at", "uncounted_attempts")
_INTERNAL_EVENT_COLUMNS = ("lead_id", "detail_salt", "detail_sha256", "hash")


def export(person: Person, found: Occurrences) -> dict[str, object]:
    """Return all data about a person as JSON; from other people's leads only the parts that mention the person."""
    return {
        "searched_for": {"email": person.email, "phone": person.phone},
        "leads": [_own_lead(lead_id) for lead_id in sorted(found.own_leads)],
        "mentions_in_other_leads": [_mentions_in_lead(lead_id, person) for lead_id in sorted(found.other_leads)],
        "mentions_in_staff_notes": _mentions_in_staff_notes(found, person),
        "sent_to": _recipients(found),
        "viewed_by": _viewers(found),
    }


def _own_lead(lead_id: int) -> dict[str, object]:
    row = InboundLead.objects.filter(pk=lead_id).values().get()
    return {
        **_without(row, _INTERNAL_LEAD_COLUMNS),
        "delivery_attempts": [_without(attempt, ("lead_id",)) for attempt in _attempts(lead_id)],
        "events": [_without(event, _INTERNAL_EVENT_COLUMNS) for event in _events(lead_id)],
    }


def _mentions_in_lead(lead_id: int, person: Person) -> dict[str, object]:
    row = InboundLead.objects.filter(pk=lead_id).values("received_at", *LEAD_TEXT_COLUMNS).get()
    parts = {name: person.parts_about(row[name]) for name in LEAD_TEXT_COLUMNS}
    parts["customer_responses"] = person.parts_about(
        [attempt[column] for attempt in _attempts(lead_id) for column in ATTEMPT_TEXT_COLUMNS]
    )
    parts["events"] = [part for event in _events(lead_id) for part in person.parts_about(event["detail"])]
    return {"received_at": row["received_at"], **{name: mentions for name, mentions in parts.items() if mentions}}


def _mentions_in_staff_notes(found: Occurrences, person: Person) -> list[object]:
    bulk_actions = BulkAction.objects.filter(pk__in=found.bulk_actions).order_by("pk")
    events = LeadEvent.objects.filter(pk__in=found.events).order_by("pk")
    return [
        *(part for bulk_action in bulk_actions for part in person.parts_about(bulk_action_texts(bulk_action))),
        *(part for event in events for part in person.parts_about(event.detail)),
    ]


def _recipients(found: Occurrences) -> list[dict[str, object]]:
    """Return when the person's leads were sent. The recipient is the customer that is configured today."""
    attempts = DeliveryAttempt.objects.filter(lead__in=found.own_leads).order_by("requested_at", "pk")
    host = urlsplit(settings.CUSTOMER_API_URL).hostname
    return [
        {"recipient": host, "lead": attempt.lead_id, "at": attempt.requested_at, "accepted": attempt.success}
        for attempt in attempts
    ]


def _viewers(found: Occurrences) -> list[dict[str, object]]:
    """Return which staff members have viewed or exported the person's data."""
    views = LeadEvent.objects.filter(lead__in=found.leads, kind=EventKind.REVEALED).order_by("pk")
    exports = LeadEvent.objects.filter(lead=None, kind=EventKind.PERSON_EXPORTED).order_by("pk")
    viewed = [(event, event.lead_id) for event in views]
    exported = [(event, lead_id) for event in exports for lead_id in sorted(_exported_leads(event) & found.leads)]
    return [
        {"lead": lead_id, "user": event.actor, "at": event.at, "action": event.kind}
        for event, lead_id in viewed + exported
    ]


def _exported_leads(event: LeadEvent) -> set[int]:
    return numbers_in(event.detail.get("leads", "")) | numbers_in(event.detail.get("other_leads", ""))


def _attempts(lead_id: int) -> list[Mapping[str, Any]]:
    return list(DeliveryAttempt.objects.filter(lead=lead_id).order_by("attempt_no").values())


def _events(lead_id: int) -> list[Mapping[str, Any]]:
    return list(LeadEvent.objects.filter(lead=lead_id).order_by("pk").values())


def _without(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in columns}
