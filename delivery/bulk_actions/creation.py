"""Create and cancel bulk actions. The leads of a bulk action are fixed when it is created."""

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import BigIntegerField, QuerySet, Value

from delivery.bulk_actions.selection import eligibility
from delivery.models import BulkAction, BulkActionKind
from leadgateway.logging import get_logger
from leads.audit.recording import record_system_event
from leads.models import EventKind, InboundLead

log = get_logger(__name__)

#: The maximum number of leads of one bulk action.
MAX_LEADS = 100_000

_MAX_SELECTION_LENGTH = 300


class NoLeads(Exception):
    """None of the leads is eligible."""


class TooManyLeads(Exception):
    """More leads are eligible than allowed."""


class AlreadyCreated(Exception):
    """The form was submitted before; `bulk_action` is the one that it created then."""

    def __init__(self, bulk_action: BulkAction) -> None:
        super().__init__(f"bulk action {bulk_action.pk}")
        self.bulk_action = bulk_action


@dataclass(frozen=True)
class BulkActionRequest:
    """What an operator asks for.

    :param selection: how the leads were selected, in words and without personal data.
    :param form_token: identifies the submitted form, so that submitting it twice creates one bulk action.
    """

    kind: BulkActionKind
    actor: str
    reason: str
    selection: str
    include_delivered: bool = False
    form_token: UUID | None = None


def create(
    request: BulkActionRequest, leads: QuerySet[InboundLead], *, now: datetime, max_leads: int = MAX_LEADS
) -> BulkAction:
    """Create a bulk action for those of `leads` that are eligible now, and record it in the audit log.

    :raises NoLeads: none of the leads is eligible.
    :raises TooManyLeads: more leads are eligible than `max_leads` or MAX_LEADS.
    :raises AlreadyCreated: the form was submitted before.
    """
    with transaction.atomic():
        bulk_action = _insert_bulk_action(request, now=now)
        is_eligible = eligibility(request.kind, include_delivered=request.include_delivered)
        bulk_action.total = _insert_items(bulk_action, leads.filter(is_eligible))
        if not bulk_action.total:
            raise NoLeads
        if bulk_action.total > min(max_leads, MAX_LEADS):
            raise TooManyLeads
        bulk_action.save(update_fields=["total"])
        _record_creation(bulk_action, now=now)
    log.info("bulk_action_created", bulk_action=bulk_action.pk, kind=bulk_action.kind, leads=bulk_action.total)
    return bulk_action


def cancel(bulk_action_id: int, *, actor: str, now: datetime) -> bool:
    """Cancel the leads that are not processed yet, and return whether the bulk action was still open.

    This also ends the claim of the worker that processes it. The worker checks its claim before each lead.
    """
    with transaction.atomic():
        still_open = BulkAction.objects.filter(pk=bulk_action_id, finished_at=None, cancelled_at=None)
        if not still_open.update(cancelled_at=now, cancelled_by=actor, claimed_until=None):
            return False
        waiting = BulkAction.objects.get(pk=bulk_action_id).waiting
        detail = {"bulk_action": bulk_action_id, "unprocessed": waiting}
        record_system_event(EventKind.BULK_ACTION_CANCELLED, actor=actor, now=now, detail=detail)
    log.info("bulk_action_cancelled", bulk_action=bulk_action_id, unprocessed=waiting)
    return True


def _insert_bulk_action(request: BulkActionRequest, *, now: datetime) -> BulkAction:
    """Insert the bulk action. A second request with the same form token waits here for the first."""
    columns = asdict(request) | {"selection": request.selection[:_MAX_SELECTION_LENGTH], "created_at": now}
    if request.form_token is None:
        return BulkAction.objects.create(**columns)
    bulk_action, is_new = BulkAction.objects.get_or_create(form_token=request.form_token, defaults=columns)
    if not is_new:
        raise AlreadyCreated(bulk_action)
    return bulk_action


def _insert_items(bulk_action: BulkAction, leads: QuerySet[InboundLead]) -> int:
    """Insert an item for each lead, oldest lead first, and return the number of items: at most MAX_LEADS + 1.

    One INSERT ... SELECT sees one snapshot, and the leads do not travel to Python and back.
    """
    rows = leads.order_by("pk").values_list(Value(bulk_action.pk, BigIntegerField()), "pk")[: MAX_LEADS + 1]
    try:
        select, parameters = rows.query.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO bulk_action_item (bulk_action_id, lead_id) {select}", parameters)
        return int(cursor.rowcount)


def _record_creation(bulk_action: BulkAction, *, now: datetime) -> None:
    detail = {
        "bulk_action": bulk_action.pk,
        "kind": bulk_action.kind,
        "leads": bulk_action.total,
        "reason": bulk_action.reason,
        "selection": bulk_action.selection,
    }
    record_system_event(EventKind.BULK_ACTION_CREATED, actor=bulk_action.actor, now=now, detail=detail)
