"""Claim a lead for one worker.

The claim is a lease in the lead's row (`claimed_until`) and a token (`claim_token`). While the lease runs, no other
worker can claim the lead. Every write of a worker requires its token, so a worker that lost the claim changes nothing.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from delivery.models import RESTRICTIONS_EXIST
from leads.models import InboundLead
from leads.status import ClaimLost

#: How much longer than a request the lease lasts: time to write the result, and to give up on a slow name lookup.
LEASE_MARGIN = timedelta(seconds=15)

#: A message can arrive early by the difference between two machines' clocks.
CLOCK_TOLERANCE = timedelta(milliseconds=100)

#: The columns of a lead that no worker has claimed.
RELEASED: dict[str, Any] = {"claimed_until": None, "claim_token": None}

# The conditions are those of LeadQuerySet.due(). Of any number of workers exactly one gets the row. If a worker beyond
# its lease stores an attempt at the same moment, the unique attempt number refuses the second one.
_CLAIM = f"""
    UPDATE inbound_lead SET claim_token = %s, claimed_until = %s, enqueued_at = NULL
    WHERE id = %s AND status IN ('RECEIVED', 'READY', 'FAILED') AND next_attempt_at <= %s
        AND (claimed_until IS NULL OR claimed_until < %s)
    RETURNING *,
        (SELECT coalesce(max(attempt_no), 0) FROM delivery_attempt WHERE lead_id = inbound_lead.id) AS attempts_made,
        {RESTRICTIONS_EXIST} AS restrictions_exist
"""  # noqa: S608 (constant SQL)


@dataclass(frozen=True)
class Claim:
    """The right to work on a lead until `until`, and what was known when the lead was claimed."""

    lead: InboundLead
    token: uuid.UUID
    until: datetime
    attempts_made: int
    #: Whether delivery control may forbid or delay the request; see `RESTRICTIONS_EXIST`.
    restrictions_exist: bool


def claim_lead(lead_id: int, *, request_timeout: timedelta) -> Claim | None:
    """Claim a lead with one UPDATE. Return None when it is not due or another worker has it.

    The lease lasts as long as a request can, plus a margin.
    """
    now, token = timezone.now(), uuid.uuid4()
    until = now + request_timeout + LEASE_MARGIN
    stored_token = InboundLead._meta.get_field("claim_token").get_db_prep_value(token, connection)
    lead: Any  # with the two columns that the statement adds
    for lead in InboundLead.objects.raw(_CLAIM, [stored_token, until, lead_id, now + CLOCK_TOLERANCE, now]):
        return Claim(lead, token, until, lead.attempts_made, bool(lead.restrictions_exist))
    return None


def update_claimed(claim: Claim, *, now: datetime, **columns: Any) -> None:
    """Set columns of the claimed lead, and lock its row until the end of the transaction.

    :raises ClaimLost: another worker has claimed the lead.
    """
    claimed = InboundLead.objects.filter(pk=claim.lead.pk, claim_token=claim.token)
    if claimed.update(updated_at=now, **columns) != 1:
        raise ClaimLost(f"lead {claim.lead.pk}")
