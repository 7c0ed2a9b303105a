"""Delete leads whose retention period is over, and keep their numbers for the statistics."""

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

#: The maximum number of leads that one transaction deletes.
BATCH = 500

#: Status in lower case, as in RETENTION_DAYS -> how long a lead with that status is kept.
Periods = Mapping[str, timedelta]

#: The UTC day on which a lead was received, and its status.
_DayAndStatus = tuple[date, str]


def expired(periods: Periods, *, now: datetime) -> QuerySet[InboundLead]:
    """Return the leads whose last change is longer ago than the retention period of their status.

    Leads that are still in progress, and leads of an open bulk action, are not returned.
    """
    is_expired = Q(pk__in=())
    for status, period in periods.items():
        # A lead is received before it is updated, so received_at adds no condition. It allows the use of an index.
        is_expired |= Q(status=status.upper(), received_at__lt=now - period, updated_at__lt=now - period)
    is_closed = Q(next_attempt_at=None) & (Q(claimed_until=None) | Q(claimed_until__lt=now))
    in_open_bulk_action = BulkActionItem.objects.filter(
        lead=OuterRef("pk"), outcome=None, bulk_action__finished_at=None, bulk_action__cancelled_at=None
    )
    return InboundLead.objects.filter(is_expired, is_closed).exclude(Exists(in_open_bulk_action))


def count_by_status(periods: Periods, *, now: datetime) -> dict[str, int]:
    """Return the number of expired leads of each status."""
    return dict(expired(periods, now=now).values_list("status").annotate(leads=Count("pk")).order_by("status"))


def delete_batch(periods: Periods, *, now: datetime, actor: str) -> int:
    """Delete up to BATCH expired leads, record their ids in the audit log, and return their number.

    Leads that another transaction has locked are left for the next batch.
    """
    with allow_audit_changes():
        leads = _lock_batch(periods, now=now)
        if not leads:
            return 0
        _add_to_statistics(leads)
        # The database deletes events, attempts and items of bulk actions in cascade.
        InboundLead.objects.filter(pk__in=leads)._raw_delete(DEFAULT_DB_ALIAS)
        AuditChainHead.objects.filter(chain__in=leads).delete()
        counts = dict(Counter(status for _, status in leads.values()))
        detail = {"leads": in_ranges(leads), "counts": counts}
        record_system_event(EventKind.RETENTION_APPLIED, actor=actor, now=now, detail=detail)
    log.info("retention_deleted", leads=len(leads), **counts)
    return len(leads)


def _lock_batch(periods: Periods, *, now: datetime) -> dict[int, _DayAndStatus]:
    """Lock the next expired leads, earliest received first, and return their days and statuses by id."""
    leads = expired(periods, now=now).select_for_update(skip_locked=True, of=("self",)).order_by("received_at")
    return {
        lead_id: (received_at.astimezone(UTC).date(), status)
        for lead_id, received_at, status in leads.values_list("pk", "received_at", "status")[:BATCH]
    }


def _add_to_statistics(leads: Mapping[int, _DayAndStatus]) -> None:
    """Add the leads and their attempts to the counts of deleted leads."""
    attempts_of_lead = DeliveryAttempt.objects.filter(lead__in=leads).values_list("lead").annotate(attempts=Count("pk"))
    attempts: Counter[_DayAndStatus] = Counter()
    for lead_id, count in attempts_of_lead:
        attempts[leads[lead_id]] += count
    for key, count in Counter(leads.values()).items():
        day, status = key
        DeletedLeads.objects.get_or_create(day=day, status=status)
        DeletedLeads.objects.filter(day=day, status=status).update(
            leads=F("leads") + count, attempts=F("attempts") + attempts[key]
        )
