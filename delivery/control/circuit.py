"""The circuit breaker: stops delivery while the customer is down.

It opens after consecutive failures of the customer's infrastructure with several leads, so that one bad lead cannot
open it. While it is open, leads wait; from time to time one lead is sent as a probe, and the first success closes it.
Failures in the meantime do not use up a lead's attempts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from delivery.client import CustomerResponse
from delivery.control.limits import slow_down
from delivery.models import DeliveryControl
from delivery.retry import ResponseClass, classify_response, doubled
from leadgateway.logging import get_logger
from leads.audit.recording import record_system_event
from leads.models import EventKind

log = get_logger(__name__)

_ACTOR = "worker"
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class CircuitPolicy:
    """When the circuit breaker opens, and how often a probe is sent."""

    failures: int = 10
    """Number of consecutive failures that opens it; 0: it never opens."""
    leads: int = 5
    """Minimum number of leads with these failures."""
    base: timedelta = timedelta(seconds=30)
    """Wait before the first probe."""
    longest: timedelta = timedelta(minutes=5)
    """Maximum wait between probes."""

    def opens_after(self, failures: int, leads: int) -> bool:
        """Return whether these failures of these leads open the circuit breaker."""
        return 0 < self.failures <= failures and self.leads <= leads

    def wait_before_probe(self, probes: int) -> timedelta:
        """Return the wait before the next probe: the base, doubled for each failed probe, up to the maximum."""
        return doubled(self.base, probes, longest=self.longest)


def record_responses(
    responses: Sequence[tuple[int, CustomerResponse]], *, restrictions_exist: bool, policy: CircuitPolicy, now: datetime
) -> set[int]:
    """Learn from the customer's responses whether it is available.

    Locks the delivery control row until the end of the caller's transaction, unless there is nothing to store. A
    permanent failure concerns the lead alone and changes nothing: a customer that is partly down may answer 404 to
    everything.

    :param responses: each with its lead, in the order in which they arrived.
    :param restrictions_exist: see `delivery.models.RESTRICTIONS_EXIST`.
    :returns: the leads whose failure does not count, because the customer is down.
    """
    classes = [classify_response(response.status) for _, response in responses]
    can_be_reset = restrictions_exist and ResponseClass.DELIVERED in classes
    if not can_be_reset and ResponseClass.RETRY not in classes:
        return set()
    control = DeliveryControl.objects.locked()
    uncounted = set()
    for response_class, (lead_id, response) in zip(classes, responses, strict=True):
        if response_class is ResponseClass.DELIVERED:
            _record_success(control, now=now)
        elif response_class is ResponseClass.RETRY:
            _record_failure(control, lead_id, response, policy=policy, now=now)
            if control.circuit_opened_at is not None:
                uncounted.add(lead_id)
    return uncounted


def take_probe(control: DeliveryControl, *, policy: CircuitPolicy, timeout: timedelta, now: datetime) -> bool:
    """Return whether this lead may be sent as a probe, and reserve the probe. `control` is locked.

    The next probe is due when this one must have ended, because its worker can stop before it stores the result.
    """
    if control.circuit(now) != "half_open":
        return False
    control.probes += 1
    control.next_probe_at = now + max(policy.wait_before_probe(control.probes), timeout)
    control.save(update_fields=["probes", "next_probe_at"])
    return True


def _record_success(control: DeliveryControl, *, now: datetime) -> None:
    """Reset the counted failures and close the circuit breaker."""
    if control.circuit_opened_at is not None:
        down_s = round((now - control.circuit_opened_at).total_seconds())
        _record(EventKind.CIRCUIT_CLOSED, now=now, down_s=down_s, probes=control.probes)
    elif not control.failures:
        return
    control.failures, control.failed_leads = 0, []
    control.circuit_opened_at, control.probes, control.next_probe_at = None, 0, None
    control.save(update_fields=["failures", "failed_leads", "circuit_opened_at", "probes", "next_probe_at"])


def _record_failure(
    control: DeliveryControl, lead_id: int, response: CustomerResponse, *, policy: CircuitPolicy, now: datetime
) -> None:
    """Slow down after a 429. Otherwise count a failure of the customer's infrastructure."""
    if response.status == _TOO_MANY_REQUESTS:
        slow_down(control, response.retry_after, now=now)
        return
    if control.circuit_opened_at is not None:
        return
    control.failures += 1
    if lead_id not in control.failed_leads and len(control.failed_leads) < policy.leads:
        control.failed_leads.append(lead_id)
    if policy.opens_after(control.failures, len(control.failed_leads)):
        control.circuit_opened_at, control.probes, control.next_probe_at = now, 0, now + policy.wait_before_probe(0)
        detail = {"leads": len(control.failed_leads), "last_answer": response.last_answer}
        _record(EventKind.CIRCUIT_OPENED, now=now, failures=control.failures, **detail)
    control.save(update_fields=["failures", "failed_leads", "circuit_opened_at", "probes", "next_probe_at"])


def _record(kind: EventKind, *, now: datetime, **detail: Any) -> None:
    """Record the event, and log it after the commit."""
    record_system_event(kind, actor=_ACTOR, now=now, detail=detail)
    write = log.error if kind is EventKind.CIRCUIT_OPENED else log.warning
    transaction.on_commit(lambda: write(str(kind), **detail), robust=True)
