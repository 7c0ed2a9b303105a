"""Erase a person (article 17 of the GDPR).

The person's own leads keep only what is needed for statistics: the row with its status and times, the attempts and
their HTTP codes. In other leads and in bulk actions, what mentions the person is replaced.

Each lead has its own transaction. If an erasure is interrupted, running it again completes it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from delivery.models import BulkAction, DeliveryAttempt
from delivery.privacy.person import ERASED, Person
from delivery.privacy.person_search import (
    ATTEMPT_TEXT_COLUMNS,
    LEAD_TEXT_COLUMNS,
    Occurrences,
    Progress,
)
from leads.audit.append_only import allow_audit_changes
from leads.audit.number_ranges import in_ranges
from leads.audit.recording import record, record_system_event
from leads.audit.redaction import replace_details
from leads.models import OPEN_STATUSES, EventKind, InboundLead, LeadStatus
from leads.normalization import search_keys
from leads.status import change_status

#: The rejection reason of a lead that the erasure has closed.
PERSON_ERASED = "PERSON_ERASED"

#: Events with a reason that staff have typed. In the person's own leads it is about them, in any words.
_EVENTS_WITH_REASON = (EventKind.REDELIVERED, EventKind.REPROCESSED, EventKind.RESOLVED)

_TABLES = ("inbound_lead", "delivery_attempt", "lead_event", "bulk_action")


@dataclass
class Report:
    """The result of an erasure, without personal data: sets of lead ids, and numbers of changed rows."""

    own_leads: set[int] = field(default_factory=set)
    other_leads: set[int] = field(default_factory=set)
    #: Leads that were skipped because a worker has claimed them.
    busy_leads: set[int] = field(default_factory=set)
    attempts: int = 0
    events: int = 0
    bulk_actions: int = 0


def erase(person: Person, found: Occurrences, *, actor: str, progress: Progress = lambda _: None) -> Report:
    """Erase a person from all places in `found` and record the erasure in the audit log."""
    report = Report()
    for lead_id in sorted(found.leads):
        is_own = lead_id in found.own_leads
        if _erase_from_lead(lead_id, person, is_own=is_own, actor=actor, report=report):
            (report.own_leads if is_own else report.other_leads).add(lead_id)
        else:
            report.busy_leads.add(lead_id)
        progress(1)
    _erase_outside_leads(person, found, actor=actor, report=report)
    return report


def rewrite_tables() -> None:
    """Rewrite the tables, so that no file of the database contains the erased data any more.

    Locks the tables meanwhile. The planner's statistics are renewed too, because they quote values.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            cursor.execute(f"VACUUM (FULL, ANALYZE) {', '.join(_TABLES)}")


# --- leads -----------------------------------------------------------------------------------------------------------


def _erase_from_lead(lead_id: int, person: Person, *, is_own: bool, actor: str, report: Report) -> bool:
    """Erase the person from one lead. Return False, with nothing changed, if a worker has claimed the lead."""
    now = timezone.now()
    with allow_audit_changes():
        lead = InboundLead.objects.select_for_update().filter(pk=lead_id).first()
        if lead is None:
            return True  # retention has deleted the lead since the search
        if lead.status in OPEN_STATUSES and lead.claimed_until is not None and lead.claimed_until > now:
            return False
        if is_own:
            _close(lead, actor=actor, now=now)
            _empty(lead, person, now=now)
        else:
            _redact(lead, person)
        report.attempts += _erase_from_attempts(lead, person, is_own=is_own)
        events = [
            event.pk
            for event in lead.events.all()
            if person.is_mentioned_in(event.detail) or (is_own and event.kind in _EVENTS_WITH_REASON)
        ]
        details = replace_details(events, _detail_eraser(person, erase_reason=is_own))
        report.events += len(details)
        record(lead, EventKind.ERASED, actor=actor, now=now, detail={"details": details})
    return True


def _close(lead: InboundLead, *, actor: str, now: datetime) -> None:
    """Close a lead that still has a next attempt: the data of an erased person is not sent."""
    if lead.status not in OPEN_STATUSES or lead.next_attempt_at is None:
        return
    to = LeadStatus.REJECTED if lead.status == LeadStatus.RECEIVED else LeadStatus.PERMANENTLY_FAILED
    detail = {"reason": PERSON_ERASED}
    columns = {"rejection_reason": PERSON_ERASED, "next_attempt_at": None}
    change_status(lead, to, actor=actor, now=now, detail=detail, columns=columns)


def _empty(lead: InboundLead, person: Person, *, now: datetime) -> None:
    """Remove all personal data from the person's own lead.

    The payload hash is removed too, because it identifies the payload. The same payload is then a new lead.
    """
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
        rejection_reason=person.redact(lead.rejection_reason),
        last_answer=person.redact(lead.last_answer),
        claim_token=None,
        claimed_until=None,
        resolved_at=lead.resolved_at or now,
        erased_at=now,
    )


def _redact(lead: InboundLead, person: Person) -> None:
    """Replace what mentions the person in another person's lead. The lead is still delivered."""
    columns = {name: person.redact(getattr(lead, name)) for name in LEAD_TEXT_COLUMNS}
    if columns["raw_payload"] != lead.raw_payload:
        keys = vars(search_keys(columns["raw_payload"]))
        columns |= {"payload_hash": None, **{f"search_{name}": value for name, value in keys.items()}}
    InboundLead.objects.filter(pk=lead.pk).update(**columns)


def _erase_from_attempts(lead: InboundLead, person: Person, *, is_own: bool) -> int:
    """Erase the person from attempts, and all response bodies of an own lead; return the number of changed attempts."""
    changed = 0
    for attempt in lead.attempts.all():
        old = {column: getattr(attempt, column) for column in ATTEMPT_TEXT_COLUMNS}
        new = {column: person.redact(value) for column, value in old.items()}
        if is_own and attempt.response_body is not None:
            new["response_body"] = ERASED
        if new != old:
            changed += DeliveryAttempt.objects.filter(pk=attempt.pk).update(**new)
    return changed


def _detail_eraser(person: Person, *, erase_reason: bool) -> Callable[[Any], Any]:
    """Return a function that erases the person from an event's detail, and the reason in any case if asked to."""

    def erase_detail(detail: Any) -> Any:
        redacted = person.redact(detail)
        return {**redacted, "reason": ERASED} if erase_reason and "reason" in redacted else redacted

    return erase_detail


# --- outside of leads ------------------------------------------------------------------------------------------------


def _erase_outside_leads(person: Person, found: Occurrences, *, actor: str, report: Report) -> None:
    """Erase the person from bulk actions and from events without a lead, and record the whole erasure."""
    with allow_audit_changes():
        for bulk_action in BulkAction.objects.filter(pk__in=found.bulk_actions):
            columns = {"reason": ERASED, "selection": person.redact(bulk_action.selection)}
            report.bulk_actions += BulkAction.objects.filter(pk=bulk_action.pk).update(**columns)
        details = replace_details(found.events, _detail_eraser(person, erase_reason=True))
        report.events += len(details)
        detail = {
            "leads": in_ranges(report.own_leads),
            "other_leads": in_ranges(report.other_leads),
            "busy_leads": in_ranges(report.busy_leads),
            "attempts": report.attempts,
            "events": report.events,
            "bulk_actions": report.bulk_actions,
            "details": details,
        }
        record_system_event(EventKind.PERSON_ERASED, actor=actor, now=timezone.now(), detail=detail)
