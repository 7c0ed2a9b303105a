"""Deletes leads when their time has come: by the status that they ended in, in batches, and counted before they go."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from delivery.models import BulkActionItem, DeliveryAttempt
from leadgateway.logging import get_logger
from leads.audit.append_only import allow_audit_changes
from leads.audit.number_ranges import in_ranges
from leads.audit.recording import record_system_event
from leads.models import AuditChainHead, DeletedLeads, EventKind, InboundLead

log = get_logger(__name__)

#: Leads that go in one transaction, with all that is theirs.
BATCH = 500

#: Status in lower case, as in RETENTION_DAYS -> how long after it ended a lead is kept.
Periods = Mapping[str, timedelta]


def expired(periods: Periods, *, now: datetime) -> QuerySet[InboundLead]:
    """Return the leads whose time has come: ended in a status for longer than that status is kept.

    No lead is among them that something may still happen to by itself, or by an order that is being carried out.
    """
    by_status = Q(pk__in=())
    for status, kept in periods.items():
        # Received earlier than that follows from the rest; it lets the index on status and time be used.
        by_status |= Q(status=status.upper(), received_at__lt=now - kept, updated_at__lt=now - kept)
    at_rest = Q(next_attempt_at=None) & (Q(claimed_until=None) | Q(claimed_until__lt=now))
    ordered = BulkActionItem.objects.filter(
        lead=OuterRef("pk"), outcome=None, bulk_action__finished_at=None, bulk_action__cancelled_at=None
    )
    return InboundLead.objects.filter(by_status, at_rest).exclude(Exists(ordered))


def count_by_status(periods: Periods, *, now: datetime) -> dict[str, int]:
    """Return how many leads of each status would go."""
    return dict(expired(periods, now=now).values_list("status").annotate(leads=Count("pk")).order_by("status"))


def delete_batch(periods: Periods, *, now: datetime, actor: str) -> int:
    """Delete some leads whose time has come, and record which; return how many."""
    with allow_audit_changes():
        chosen = expired(periods, now=now).select_for_update(skip_locked=True, of=("self",)).order_by("received_at")
        leads = {
            lead_id: (received.astimezone(UTC).date(), status)
            for lead_id, received, status in chosen.values_list("pk", "received_at", "status")[:BATCH]
        }
        if not leads:
            return 0
        _count(leads)
        # The database takes events, attempts and items of orders with them.
        InboundLead.objects.filter(pk__in=leads)._raw_delete(DEFAULT_DB_ALIAS)
        AuditChainHead.objects.filter(chain__in=leads).delete()
        by_status = dict(Counter(status for _, status in leads.values()))
        detail = {"leads": in_ranges(leads), "counts": by_status}
        record_system_event(EventKind.RETENTION_APPLIED, actor=actor, now=now, detail=detail)
    log.info("retention_deleted", leads=len(leads), **by_status)
    return len(leads)


def _count(leads: Mapping[int, tuple[date, str]]) -> None:
    """Add leads that go, and their attempts, to the statistics that stay."""
    attempts = dict(DeliveryAttempt.objects.filter(lead__in=leads).values_list("lead").annotate(made=Count("pk")))
    totals: Counter[tuple[date, str]] = Counter(leads.values())
    for (day, status), gone in totals.items():
        made = sum(attempts.get(lead_id, 0) for lead_id, of in leads.items() if of == (day, status))
        DeletedLeads.objects.get_or_create(day=day, status=status)
        DeletedLeads.objects.filter(day=day, status=status).update(
            leads=F("leads") + gone, attempts=F("attempts") + made
        )
