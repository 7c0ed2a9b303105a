"""Takes details out of the trail without breaking its chains: the one change of an event that the law demands."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from leads.audit.hash_chain import Event, read, seal, sha256
from leads.models import LeadEvent


def replace_details(event_ids: Iterable[int], replace: Callable[[Any], Any]) -> dict[str, str]:
    """Put `replace(detail)` in place of the details of events, inside an open door.

    The seal of the old detail is kept in place of its salt, so that the event's hash still holds and says nothing of
    what is gone. Return by event the hash of what is there now: an event that says so has to be recorded in the same
    chain, under "details", or the trail counts as changed.
    """
    events = list(read(LeadEvent.objects.filter(pk__in=list(event_ids))))
    for event in events:
        sealed = event.detail_sha256 if event.detail_salt is None else seal(event.detail_salt, event.detail)
        LeadEvent.objects.filter(pk=event.id).update(
            detail=replace(json.loads(event.detail)), detail_salt=None, detail_sha256=sealed
        )
    return {str(event.id): sha256(event.detail) for event in _again(events)}


def _again(events: list[Event]) -> Iterable[Event]:
    return read(LeadEvent.objects.filter(pk__in=[event.id for event in events]))
