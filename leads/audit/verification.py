"""Checks the chains of the trail: names the first broken link of each, and what must have been done to it."""

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

_AT_ONCE = 500


@dataclass(frozen=True)
class Head:
    """Where a chain ends, or ended at some time: after so many events, with this hash."""

    events: int
    hash: str


@dataclass(frozen=True)
class Chain:
    """A chain with what else the database says of it."""

    id: int
    events: list[Event]
    head: Head | None
    #: The status in the lead's row; None: there is no row, or no lead that it could be of.
    status: str | None = None


@dataclass(frozen=True)
class Checked:
    """A chain that was looked at: where it ends, and what is wrong with it, if anything is."""

    chain: int
    head: Head | None
    problem: str | None

    def __str__(self) -> str:
        name = "events of no lead" if self.chain == OF_NO_LEAD else f"lead {self.chain}"
        return f"{name}: {self.problem or 'whole'}"


@dataclass(frozen=True)
class Anchors:
    """The heads of some earlier time, kept outside of the database, and the leads that were lawfully deleted since."""

    heads: Mapping[int, Head] = field(default_factory=dict)
    deleted: Collection[int] = ()


# --- which chains ----------------------------------------------------------------------------------------------------


def all_chains(anchors: Anchors) -> list[int]:
    """Return every chain that is there or should be: with events, with a head, with an anchor, or of a lead at all."""
    heads = AuditChainHead.objects.filter(chain=OuterRef("lead_id"))
    headless = LeadEvent.objects.filter(~Exists(heads)).values_list("lead_id", flat=True).distinct()
    silent = InboundLead.objects.exclude(status=LeadStatus.RECEIVED).filter(
        ~Exists(AuditChainHead.objects.filter(chain=OuterRef("pk")))
    )
    found = {*AuditChainHead.objects.values_list("chain", flat=True), *(chain or OF_NO_LEAD for chain in headless)}
    return sorted(found | set(silent.values_list("pk", flat=True)) | set(anchors.heads))


def chains_since(moment: datetime) -> list[int]:
    """Return the chains to which something was added since a moment."""
    recent = LeadEvent.objects.filter(at__gte=moment).values_list("lead_id", flat=True).distinct()
    return sorted({chain or OF_NO_LEAD for chain in recent})


def anchors_of(heads: Mapping[int, Head]) -> Anchors:
    """Return anchors with the leads that retention says it has deleted."""
    applied = LeadEvent.objects.filter(lead=None, kind=EventKind.RETENTION_APPLIED)
    deleted = (numbers_in(str(detail.get("leads", ""))) for detail in applied.values_list("detail", flat=True))
    return Anchors(heads, frozenset().union(*deleted))


# --- checking them ---------------------------------------------------------------------------------------------------


def check(
    chains: list[int], *, anchors: Anchors, progress: Callable[[int], object] = lambda _: None
) -> Iterator[Checked]:
    """Check chains, and yield each.

    Others may go on adding to them: what seems broken is looked at again while nobody can.

    :param progress: is told how many chains have been checked since it was last called.
    """
    for start in range(0, len(chains), _AT_ONCE):
        batch = chains[start : start + _AT_ONCE]
        for chain in _read(batch):
            checked = _check(chain, anchors)
            yield _check_alone(chain.id, anchors) if checked.problem else checked
        progress(len(batch))


def _check_alone(chain: int, anchors: Anchors) -> Checked:
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


def _check(chain: Chain, anchors: Anchors) -> Checked:
    problem = _first_broken_link(chain) or _end(chain) or _status(chain) or _anchor(chain, anchors)
    return Checked(chain.id, chain.head, problem)


def _first_broken_link(chain: Chain) -> str | None:
    erased = _erased_details(chain.events)
    previous = CHAIN_START
    for place, event in enumerate(chain.events):
        if not _is_as_written(event, erased):
            is_passed_over = event.hash is None or _what_follows(place, chain) == previous
            return f"event {event.id} was {'inserted' if is_passed_over else 'changed'}"
        if event.previous != previous:
            return _misplaced(place, chain.events)
        previous = str(event.hash)
    return None


def _what_follows(place: int, chain: Chain) -> str | None:
    """Return which hash the event after this place, or the head, says to be the one before it."""
    if place + 1 < len(chain.events):
        return chain.events[place + 1].previous
    return chain.head.hash if chain.head else None


def _is_as_written(event: Event, erased: Mapping[int, str]) -> bool:
    """Tell whether the event is what its hash says, or is without its detail by a recorded erasure."""
    if event.detail_salt is not None:
        sealed = seal(event.detail_salt, event.detail)
    elif event.detail_sha256 is not None and erased.get(event.id) == sha256(event.detail):
        sealed = event.detail_sha256
    else:
        return False
    previous = event.previous or ""
    return is_unambiguous(event) and event.hash == hash_of(event, previous=previous, sealed_detail=sealed)


def _erased_details(events: Iterable[Event]) -> dict[int, str]:
    """Return, by event, the hash of what erasures have left of its detail."""
    erasures = [event for event in events if event.kind in (EventKind.ERASED, EventKind.PERSON_ERASED)]
    told = [json.loads(event.detail).get("details") or {} for event in erasures]
    return {int(event_id): left for details in told for event_id, left in details.items()}


def _misplaced(place: int, events: list[Event]) -> str:
    """Say what must have been done before an event that is whole but does not follow the one before it."""
    event = events[place]
    places = {CHAIN_START: -1} | {str(other.hash): number for number, other in enumerate(events)}
    follows = places.get(str(event.previous))
    if follows is None:
        return f"what came before event {event.id} was removed"
    if follows > place:
        return f"event {event.id} was moved: it stands before the one that it follows"
    return f"event {events[follows + 1].id} was inserted"


def _end(chain: Chain) -> str | None:
    """Say what is wrong with the end of a chain whose links hold."""
    found = Head(len(chain.events), chain.events[-1].hash or "") if chain.events else None
    if found == chain.head:
        return None
    if chain.head is None:
        return "where its events end was removed"
    if found is None:
        gone = "" if chain.status or chain.id == OF_NO_LEAD else ", and so was the lead"
        return f"all its events, {chain.head.events} of them, were removed{gone}"
    if chain.head.events > found.events:
        return f"after event {chain.events[-1].id} the last {chain.head.events - found.events} events were removed"
    known = next((event.id for event in chain.events if event.hash == chain.head.hash), None)
    return "where its events end was changed" if known is None else f"what follows event {known} was inserted"


def _status(chain: Chain) -> str | None:
    """Compare a lead's row with its trail."""
    told = next((event.to_status for event in reversed(chain.events) if event.to_status), None)
    if chain.status is None or chain.status == (told or LeadStatus.RECEIVED):
        return None
    if not chain.events:
        return "it has no trail"
    return f"its row says {chain.status}, its trail {told or 'nothing of it'}"


def _anchor(chain: Chain, anchors: Anchors) -> str | None:
    """Compare a chain with what it was when it was anchored."""
    anchor = anchors.heads.get(chain.id)
    if anchor is None or (not chain.events and chain.id in anchors.deleted):
        return None
    if len(chain.events) < anchor.events:
        return f"it had {anchor.events} events when it was anchored; now there are {len(chain.events)}"
    event = chain.events[anchor.events - 1]
    return None if event.hash == anchor.hash else f"up to event {event.id} it is not what was anchored"
