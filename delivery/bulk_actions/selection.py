"""Decide which leads are eligible for a bulk action."""

from django.db.models import Q

from delivery.models import BulkActionKind
from leads.models import NEEDS_ATTENTION, LeadStatus
from leads.rules import RejectionReason


def eligibility(kind: BulkActionKind, *, include_delivered: bool = False) -> Q:
    """Return the condition that a lead must meet for a bulk action of this kind.

    A lead can still be skipped when it is processed: it may have changed, or a worker may have claimed it.

    :param include_delivered: whether a redelivery also covers leads that the customer already has.
    """
    match kind:
        case BulkActionKind.REDELIVER:
            statuses = [LeadStatus.FAILED, LeadStatus.PERMANENTLY_FAILED]
            if include_delivered:
                statuses.append(LeadStatus.DELIVERED)
            lacks_required_field = Q(rejection_reason=RejectionReason.MISSING_REQUIRED_FIELD)
            return Q(status__in=statuses, customer_payload__isnull=False) & ~lacks_required_field
        case BulkActionKind.REPROCESS:
            statuses = [LeadStatus.REJECTED, LeadStatus.FAILED, LeadStatus.PERMANENTLY_FAILED]
            return Q(status__in=statuses, erased_at=None)
        case BulkActionKind.RESOLVE:
            return NEEDS_ATTENTION
