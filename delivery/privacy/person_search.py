"""Finds everything that is stored about a person: reads every lead, since a name may stand anywhere in a payload."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet

from delivery.models import BulkAction, BulkActionItem, DeliveryAttempt
from delivery.privacy.person import Person
from leads.models import InboundLead, LeadEvent

_READ_AT_ONCE = 1000

#: What of a lead's row may name somebody.
TEXTS_OF_A_LEAD = (
    *("raw_payload", "normalized_payload", "customer_payload", "source_headers"),
    *("rejection_reason", "last_answer"),
)

Progress = Callable[[int], object]


@dataclass
class Found:
    """Where a person is: leads of theirs, and other places that name them."""

    theirs: set[int] = field(default_factory=set)
    others: set[int] = field(default_factory=set)
    #: Orders that name them, or that were given for a lead of theirs alone: the reason is about them, in any words.
    orders: set[int] = field(default_factory=set)
    #: Events of no lead that do.
    events: set[int] = field(default_factory=set)

    @property
    def leads(self) -> set[int]:
        """Return all leads that have something of the person."""
        return self.theirs | self.others

    def __bool__(self) -> bool:
        return bool(self.leads or self.events or self.orders)


def find(person: Person, *, progress: Progress = lambda _: None) -> Found:
    """Return where a person is.

    :param progress: is told how many leads have been read since it was last called.
    """
    found = Found()
    for lead_id, payload in _leads_with(person, progress):
        (found.theirs if person.sent(payload) else found.others).add(lead_id)
    elsewhere = set(_leads_with_attempts_about(person))
    for event_id, of_lead in _events_about(person):
        if of_lead is None:
            found.events.add(event_id)
        else:
            elsewhere.add(of_lead)
    found.others |= elsewhere - found.theirs
    found.orders = {order.pk for order in BulkAction.objects.iterator() if person.is_in(texts_of_order(order))}
    found.orders |= set(_orders_for_one_of(found.theirs))
    found.events |= set(_events_of_orders(found.orders))
    return found


def texts_of_order(order: BulkAction) -> list[str | None]:
    """Return what somebody has typed for an order."""
    return [order.reason, order.selection]


def _leads_with(person: Person, progress: Progress) -> Iterator[tuple[int, dict[str, Any]]]:
    for lead_id, payload, *others in _rows(InboundLead.objects.values_list("pk", *TEXTS_OF_A_LEAD)):
        if person.is_in(payload) or person.is_in(others):
            yield lead_id, payload
        progress(1)


def _leads_with_attempts_about(person: Person) -> Iterator[int]:
    told = DeliveryAttempt.objects.exclude(response_body=None, error_message=None)
    for lead_id, *texts in _rows(told.values_list("lead_id", "response_body", "error_message")):
        if person.is_in(texts):
            yield lead_id


def _events_about(person: Person) -> Iterator[tuple[int, int | None]]:
    telling = LeadEvent.objects.exclude(detail={})
    for event_id, lead_id, detail in _rows(telling.values_list("pk", "lead_id", "detail")):
        if person.is_in(detail):
            yield event_id, lead_id


def _orders_for_one_of(leads: set[int]) -> "QuerySet[BulkActionItem, int]":
    items = BulkActionItem.objects.filter(bulk_action__total=1, lead__in=leads)
    return items.values_list("bulk_action_id", flat=True)


def _events_of_orders(orders: set[int]) -> "QuerySet[LeadEvent, int]":
    events = LeadEvent.objects.filter(lead=None, detail__bulk_action__in=list(orders), detail__has_key="reason")
    return events.values_list("pk", flat=True)


def _rows(rows: Any) -> Iterator[Any]:
    return iter(rows.iterator(_READ_AT_ONCE))
