"""Find all stored data that mentions a person.

The search reads every lead, because a person can be mentioned anywhere in a payload.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from delivery.models import BulkAction, BulkActionItem, DeliveryAttempt
from delivery.privacy.person import Person
from leads.models import InboundLead, LeadEvent

#: The columns of a lead that can mention a person.
LEAD_TEXT_COLUMNS = (
    *("raw_payload", "normalized_payload", "customer_payload", "source_headers"),
    *("rejection_reason", "last_answer"),
)

#: The columns of a delivery attempt that can mention a person.
ATTEMPT_TEXT_COLUMNS = ("response_body", "error_message", "error")

#: Called with the number of leads completed since the last call.
Progress = Callable[[int], object]


@dataclass
class Occurrences:
    """Where a person occurs, as sets of ids."""

    own_leads: set[int] = field(default_factory=set)
    #: Leads of other people that mention the person.
    other_leads: set[int] = field(default_factory=set)
    #: Bulk actions that mention the person, or whose only lead is the person's own: their reason is about the person.
    bulk_actions: set[int] = field(default_factory=set)
    #: Events that mention the person and belong to no lead.
    events: set[int] = field(default_factory=set)

    @property
    def leads(self) -> set[int]:
        """Return all leads with data of the person."""
        return self.own_leads | self.other_leads

    def __bool__(self) -> bool:
        return bool(self.leads or self.events or self.bulk_actions)


def find(person: Person, *, progress: Progress = lambda _: None) -> Occurrences:
    """Return where a person occurs."""
    found = Occurrences()
    for lead_id, payload in _leads_that_mention(person, progress):
        (found.own_leads if person.owns(payload) else found.other_leads).add(lead_id)
    found.other_leads |= set(_leads_with_attempts_that_mention(person)) - found.own_leads
    for event_id, event_lead_id in _events_that_mention(person):
        if event_lead_id is None:
            found.events.add(event_id)
        elif event_lead_id not in found.own_leads:
            found.other_leads.add(event_lead_id)
    found.bulk_actions = _bulk_actions_about(person, found.own_leads)
    found.events |= _events_with_reason_of(found.bulk_actions)
    return found


def bulk_action_texts(bulk_action: BulkAction) -> list[str | None]:
    """Return the texts of a bulk action that people have typed."""
    return [bulk_action.reason, bulk_action.selection]


def _leads_that_mention(person: Person, progress: Progress) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the id and raw payload of each lead whose own columns mention the person."""
    for lead_id, payload, *others in InboundLead.objects.values_list("pk", *LEAD_TEXT_COLUMNS).iterator():
        if person.is_mentioned_in(payload) or person.is_mentioned_in(others):
            yield lead_id, payload
        progress(1)


def _leads_with_attempts_that_mention(person: Person) -> Iterator[int]:
    attempts = DeliveryAttempt.objects.exclude(**{f"{column}__isnull": True for column in ATTEMPT_TEXT_COLUMNS})
    for lead_id, *texts in attempts.values_list("lead_id", *ATTEMPT_TEXT_COLUMNS).iterator():
        if person.is_mentioned_in(texts):
            yield lead_id


def _events_that_mention(person: Person) -> Iterator[tuple[int, int | None]]:
    """Yield the id and lead of each event that mentions the person."""
    events = LeadEvent.objects.exclude(detail={})
    for event_id, lead_id, detail in events.values_list("pk", "lead_id", "detail").iterator():
        if person.is_mentioned_in(detail):
            yield event_id, lead_id


def _bulk_actions_about(person: Person, own_leads: set[int]) -> set[int]:
    mentioning = {
        bulk_action.pk
        for bulk_action in BulkAction.objects.iterator()
        if person.is_mentioned_in(bulk_action_texts(bulk_action))
    }
    for_own_lead_only = BulkActionItem.objects.filter(bulk_action__total=1, lead__in=own_leads)
    return mentioning | set(for_own_lead_only.values_list("bulk_action_id", flat=True))


def _events_with_reason_of(bulk_actions: set[int]) -> set[int]:
    events = LeadEvent.objects.filter(lead=None, detail__bulk_action__in=list(bulk_actions), detail__has_key="reason")
    return set(events.values_list("pk", flat=True))
