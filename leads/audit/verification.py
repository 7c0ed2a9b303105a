"""Verify the hash chains of the audit log: find the first invalid event of each chain, and what was changed."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, OuterRef

from leads.audit.hash_chain import CHAIN_START, OF_NO_LEAD, Event, hash_of, is_unambiguous, read, seal, sha256
from leads.audit.number_ranges import numbers_in
from leads.models import AuditChainHead, EventKind, InboundLead, LeadEvent, LeadStatus

_BATCH_SIZE = 500


@dataclass(frozen=True)
class Head:
    """The number of events in a chain and the hash of the last one, now or at an earlier time."""

    events: int
    hash: str


@dataclass(frozen=True)
class Chain:
    """A chain, its head, and the status of its lead."""

    id: int
    events: list[Event]
    head: Head | None
    #: None when the lead has no row, or the events belong to no lead.
    status: str | None = None


@dataclass(frozen=True)
class VerifiedChain:
    """The result of verifying a chain."""

    chain: int
    head: Head | None
    problem: str | None

    def __str__(self) -> str:
        name = "events without a lead" if self.chain == OF_NO_LEAD else f"lead {self.chain}"
        return f"{name}: {self.problem or 'valid'}"


@dataclass(frozen=True)
class Anchors:
    """Heads that were saved outside of the database, and the leads that retention has deleted since."""

    heads: Mapping[int, Head] = field(default_factory=dict)
    deleted: Collection[int] = ()


# --- selection of chains ---------------------------------------------------------------------------------------------


def all_chains(anchors: Anchors) -> list[int]:
    """Return every chain with events, a head or an anchor, and those of leads that should have events but have none."""
    heads = AuditChainHead.objects.filter(chain=OuterRef("lead_id"))
    headless = LeadEvent.objects.filter(~Exists(heads)).values_list("lead_id", flat=True).distinct()
    without_events = InboundLead.objects.exclude(status=LeadStatus.RECEIVED).filter(
        ~Exists(AuditChainHead.objects.filter(chain=OuterRef("pk")))
    )
    found = {*AuditChainHead.objects.values_list("chain", flat=True), *(chain or OF_NO_LEAD for chain in headless)}
    return sorted(found | set(without_events.values_list("pk", flat=True)) | set(anchors.heads))


def chains_since(moment: datetime) -> list[int]:
    """Return the chains with events since a time."""
    recent = LeadEvent.objects.filter(at__gte=moment).values_list("lead_id", flat=True).distinct()
    return sorted({chain or OF_NO_LEAD for chain in recent})


def anchors_of(heads: Mapping[int, Head]) -> Anchors:
    """Return anchors for heads, with the leads that retention has deleted according to the audit log."""
    applied = LeadEvent.objects.filter(lead=None, kind=EventKind.RETENTION_APPLIED)
    deleted = (numbers_in(str(detail.get("leads", ""))) for detail in applied.values_list("detail", flat=True))
    return Anchors(heads, frozenset().union(*deleted))


# --- verification ----------------------------------------------------------------------------------------------------


def check(
    chains: list[int], *, anchors: Anchors, progress: Callable[[int], object] = lambda _: None
) -> Iterator[VerifiedChain]:
    """Verify chains, and yield the result of each.

    Events may be added meanwhile: a chain with a problem is verified again under a lock.

    :param progress: called with the number of chains that were verified since its last call.
    """
    for start in range(0, len(chains), _BATCH_SIZE):
        batch = chains[start : start + _BATCH_SIZE]
        for chain in _read(batch):
            checked = _check(chain, anchors)
            yield _check_locked(chain.id, anchors) if checked.problem else checked
        progress(len(batch))


def _check_locked(chain: int, anchors: Anchors) -> VerifiedChain:
    with transaction.atomic():
        AuditChainHead.objects.select_for_update().filter(chain=chain).first()
        return _check(_read([chain])[0], anchors)


def _read(chains: list[int]) -> list[Chain]:
    heads = AuditChainHead.objects.in_bulk(chains)
    statuses = dict(InboundLead.objects.filter(pk__in=chains).values_list("pk", "status"))
    events = {chain: list(members) for chain, members in groupby(_events(chains), key=lambda event: event.chain)}
    return [
        Chain(
            id=chain,
            events=events.get(chain, []),
            head=Head(heads[chain].events, heads[chain].hash) if chain in heads else None,
            status=statuses.get(chain),
        )
        for chain in chains
    ]


def _events(chains: list[int]) -> Iterator[Event]:
    yield from read(LeadEvent.objects.filter(lead_id__in=chains))
    if OF_NO_LEAD in chains:
        yield from read(LeadEvent.objects.filter(lead_id=None))


def _check(chain: Chain, anchors: Anchors) -> VerifiedChain:
    problem = _link_problem(chain) or _head_problem(chain) or _status_problem(chain) or _anchor_problem(chain, anchors)
    return VerifiedChain(chain.id, chain.head, problem)


def _link_problem(chain: Chain) -> str | None:
    erased = _erased_details(chain.events)
    previous = CHAIN_START
    for index, event in enumerate(chain.events):
        if not _follows(event, previous, erased):
            return _describe_break(index, previous, chain, erased)
        previous = str(event.hash)
    return None


def _follows(event: Event, previous: str, erased: Mapping[int, str]) -> bool:
    """Return whether an event is unchanged and was recorded after the event with the hash `previous`.

    Its detail may have been erased if the erasure was recorded.
    """
    if event.detail_salt is not None:
        sealed = seal(event.detail_salt, event.detail)
    elif event.detail_sha256 is not None and erased.get(event.id) == sha256(event.detail):
        sealed = event.detail_sha256
    else:
        return False
    return is_unambiguous(event) and event.hash == hash_of(event, previous=previous, sealed_detail=sealed)


def _describe_break(index: int, previous: str, chain: Chain, erased: Mapping[int, str]) -> str:
    """Describe the change at the first event that does not follow the event before it, whose hash is `previous`."""
    event = chain.events[index]
    hashes = [CHAIN_START, *(str(other.hash) for other in chain.events)]
    predecessor = next((number for number, each in enumerate(hashes, -1) if _follows(event, each, erased)), None)
    if predecessor is not None and predecessor > index:
        return f"event {event.id} was moved before its predecessor"
    if predecessor is not None:
        return f"event {chain.events[predecessor + 1].id} was inserted"
    if _rest_follows(index, previous, chain, erased):
        return f"event {event.id} was inserted"
    if chain.head and len(chain.events) < chain.head.events:
        return f"the event before event {event.id} was removed"
    return f"event {event.id} was changed"


def _rest_follows(index: int, previous: str, chain: Chain, erased: Mapping[int, str]) -> bool:
    """Return whether the chain is valid without the event at `index`."""
    if index + 1 < len(chain.events):
        return _follows(chain.events[index + 1], previous, erased)
    return chain.head is not None and chain.head.hash == previous


def _erased_details(events: Iterable[Event]) -> dict[int, str]:
    """Return the hash of the remaining detail for each event whose detail was erased."""
    erasures = [event for event in events if event.kind in (EventKind.ERASED, EventKind.PERSON_ERASED)]
    recorded = [json.loads(event.detail).get("details") or {} for event in erasures]
    return {int(event_id): left for details in recorded for event_id, left in details.items()}


def _head_problem(chain: Chain) -> str | None:
    """Compare the last event of a chain with its head."""
    found = Head(len(chain.events), chain.events[-1].hash or "") if chain.events else None
    if found == chain.head:
        return None
    if chain.head is None:
        return "the head of the chain was removed"
    if found is None:
        lead = "" if chain.status or chain.id == OF_NO_LEAD else " and the lead"
        return f"all {chain.head.events} events{lead} were removed"
    if chain.head.events > found.events:
        return f"the last {chain.head.events - found.events} events after event {chain.events[-1].id} were removed"
    known = next((event.id for event in chain.events if event.hash == chain.head.hash), None)
    return "the head of the chain was changed" if known is None else f"the events after event {known} were inserted"


def _status_problem(chain: Chain) -> str | None:
    """Compare the status in a lead's row with its last status event."""
    recorded = next((event.to_status for event in reversed(chain.events) if event.to_status), None)
    if chain.status is None or chain.status == (recorded or LeadStatus.RECEIVED):
        return None
    if not chain.events:
        return "the lead has no events"
    return f"the lead's status is {chain.status}, but the audit log has {recorded or 'no status'}"


def _anchor_problem(chain: Chain, anchors: Anchors) -> str | None:
    """Compare a chain with its anchor."""
    anchor = anchors.heads.get(chain.id)
    if anchor is None or (not chain.events and chain.id in anchors.deleted):
        return None
    if len(chain.events) < anchor.events:
        return f"the anchor has {anchor.events} events, but the chain has {len(chain.events)}"
    event = chain.events[anchor.events - 1]
    return None if event.hash == anchor.hash else f"event {event.id} or an earlier one differs from the anchor"
