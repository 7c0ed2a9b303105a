"""Replace details of events without breaking the hash chains. Erasure of personal data needs this."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from leads.audit.hash_chain import read, seal, sha256
from leads.models import LeadEvent


def replace_details(event_ids: Iterable[int], replace: Callable[[Any], Any]) -> dict[str, str]:
    """Replace the detail of each event by `replace(detail)`, inside `allow_audit_changes`.

    The hash of the old detail and its salt replaces the salt, so that the event's hash remains valid and does not
    reveal the old detail.

    :return: the hash of each new detail by event id. The caller must record them in an event of the same chain, under
        "details". Otherwise verification reports the events as changed.
    """
    redacted = LeadEvent.objects.filter(pk__in=list(event_ids))
    for event in list(read(redacted)):
        sealed = event.detail_sha256 if event.detail_salt is None else seal(event.detail_salt, event.detail)
        LeadEvent.objects.filter(pk=event.id).update(
            detail=replace(json.loads(event.detail)), detail_salt=None, detail_sha256=sealed
        )
    return {str(event.id): sha256(event.detail) for event in read(redacted)}
