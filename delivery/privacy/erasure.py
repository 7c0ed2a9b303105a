"""Erases a person: what is theirs goes, and what it was counted for stays.

A lead of theirs becomes a tombstone: its row, status, times, attempts and their codes. From what belongs to others, or
to nobody, they are taken out. One transaction for each lead: an erasure that is broken off is taken up by the next.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from delivery.models import BulkAction, DeliveryAttempt
from delivery.privacy.person import ERASED, Person
from delivery.privacy.person_search import TEXTS_OF_A_LEAD, Found, Progress
from leads.audit.append_only import allow_audit_changes
from leads.audit.number_ranges import in_ranges
from leads.audit.recording import record, record_system_event
from leads.audit.redaction import replace_details
from leads.models import OPEN_STATUSES, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.normalization import search_keys
from leads.status import change_status

#: Why a lead ends that was still under way; in the place of a rule that it broke.
PERSON_ERASED = "PERSON_ERASED"

#: Events whose reason somebody has typed: in a lead of the person's it may speak of them in any words.
_REASONED = (EventKind.REDELIVERED, EventKind.REPROCESSED, EventKind.RESOLVED)

_TABLES = ("inbound_lead", "delivery_attempt", "lead_event", "bulk_action")


@dataclass
class Report:
    """What was done, without a word of whom it was about."""

    theirs: set[int] = field(default_factory=set)
    others: set[int] = field(default_factory=set)
    #: Left as they were: a worker has them in its hands right now.
    busy: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=lambda: Counter(attempts=0, events=0, orders=0))


def erase(person: Person, found: Found, *, actor: str, progress: Progress = lambda _: None) -> Report:
    """Erase a person from where they were found, and record that in the trail.

    :param progress: is told how many leads have been seen to since it was last called.
    """
    report = Report()
    for lead_id in sorted(found.leads):
        is_theirs = lead_id in found.theirs
        if _erase_from_lead(lead_id, person, is_theirs=is_theirs, actor=actor, counts=report.counts):
            (report.theirs if is_theirs else report.others).add(lead_id)
        else:
            report.busy.add(lead_id)
        progress(1)
    _erase_from_the_rest(person, found, report, actor=actor)
    return report


def rewrite_tables() -> None:
    """Rewrite what was erased from, so that it is in no file of the database any more; locks the tables meanwhile.

    The planner's statistics are made anew as well: they quote values.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            cursor.execute(f"VACUUM (FULL, ANALYZE) {', '.join(_TABLES)}")


def _erase_from_lead(lead_id: int, person: Person, *, is_theirs: bool, actor: str, counts: Counter[str]) -> bool:
    """Erase the person from a lead; tell whether that could be done now."""
    now = timezone.now()
    with allow_audit_changes():
        lead = InboundLead.objects.select_for_update().filter(pk=lead_id).first()
        if lead is None:
            return True  # retention was faster
        if lead.status in OPEN_STATUSES and lead.claimed_until is not None and lead.claimed_until > now:
            return False
        if is_theirs:
            _stop(lead, actor=actor, now=now)
            _empty(lead, person, now=now)
        else:
            _take_out(lead, person)
        counts["attempts"] += _erase_from_attempts(lead, person, is_theirs=is_theirs)
        details = replace_details(_events_to_erase(lead, person, is_theirs=is_theirs), _without(person, is_theirs))
        counts["events"] += len(details)
        record(lead, EventKind.ERASED, actor=actor, now=now, detail={"details": details})
    return True


def _stop(lead: InboundLead, *, actor: str, now: datetime) -> None:
    """End the way of a lead that is still under way: nothing of an erased person goes out."""
    if lead.status not in OPEN_STATUSES or lead.next_attempt_at is None:
        return
    to = LeadStatus.REJECTED if lead.status == LeadStatus.RECEIVED else LeadStatus.PERMANENTLY_FAILED
    detail = {"reason": PERSON_ERASED}
    change_status(lead, to, actor=actor, now=now, detail=detail, rejection_reason=PERSON_ERASED, next_attempt_at=None)


def _empty(lead: InboundLead, person: Person, *, now: datetime) -> None:
    """Leave the tombstone. Without the hash, which is a fingerprint, the same payload is a new lead."""
    InboundLead.objects.filter(pk=lead.pk).update(
        raw_payload={},
        source_headers=None,
        normalized_payload=None,
        customer_payload=None,
        payload_hash=None,
        search_email=None,
        search_phone=None,
        search_zipcode=None,
        search_name=None,
        rejection_reason=person.taken_out_of(lead.rejection_reason),
        last_answer=person.taken_out_of(lead.last_answer),
        claim_token=None,
        claimed_until=None,
        resolved_at=lead.resolved_at or now,
        erased_at=now,
    )


def _take_out(lead: InboundLead, person: Person) -> None:
    """Take the person out of somebody else's lead, which goes on its way without them."""
    changed = {name: person.taken_out_of(getattr(lead, name)) for name in TEXTS_OF_A_LEAD}
    if changed["raw_payload"] != lead.raw_payload:
        keys = vars(search_keys(changed["raw_payload"]))
        changed |= {"payload_hash": None, **{f"search_{name}": value for name, value in keys.items()}}
    InboundLead.objects.filter(pk=lead.pk).update(**changed)


def _erase_from_attempts(lead: InboundLead, person: Person, *, is_theirs: bool) -> int:
    """Erase what the customer answered, and error texts; return from how many attempts."""
    erased = 0
    for attempt in DeliveryAttempt.objects.filter(lead=lead).exclude(response_body=None, error_message=None):
        changed = {
            "response_body": _erased_text(attempt.response_body, person, entirely=is_theirs),
            "error_message": _erased_text(attempt.error_message, person, entirely=False),
        }
        if changed != {name: getattr(attempt, name) for name in changed}:
            erased += DeliveryAttempt.objects.filter(pk=attempt.pk).update(**changed)
    return erased


def _erased_text(text: str | None, person: Person, *, entirely: bool) -> str | None:
    return ERASED if text is not None and (entirely or person.is_in(text)) else text


def _events_to_erase(lead: InboundLead, person: Person, *, is_theirs: bool) -> list[int]:
    return [
        event.pk
        for event in LeadEvent.objects.filter(lead=lead)
        if person.is_in(event.detail) or (is_theirs and event.kind in _REASONED)
    ]


def _without(person: Person, reasons_too: bool) -> Callable[[Any], Any]:
    def replace(detail: Any) -> Any:
        erased = person.taken_out_of(detail)
        return {**erased, "reason": ERASED} if reasons_too and "reason" in erased else erased

    return replace


def _erase_from_the_rest(person: Person, found: Found, report: Report, *, actor: str) -> None:
    """Take the person out of what belongs to no lead, and record the whole."""
    with allow_audit_changes():
        for order in BulkAction.objects.filter(pk__in=found.orders):
            selection = person.taken_out_of(order.selection)
            report.counts["orders"] += BulkAction.objects.filter(pk=order.pk).update(reason=ERASED, selection=selection)
        details = replace_details(found.events, _without(person, reasons_too=True))
        report.counts["events"] += len(details)
        record_system_event(
            EventKind.PERSON_ERASED,
            actor=actor,
            now=timezone.now(),
            detail={
                "leads": in_ranges(report.theirs),
                "leads_of_others": in_ranges(report.others),
                "left_for_later": in_ranges(report.busy),
                **report.counts,
                "details": details,
            },
        )
