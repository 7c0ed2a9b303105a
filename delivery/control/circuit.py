"""The circuit breaker: stops delivery while the customer is down.

It opens after consecutive failures of the customer's infrastructure with several leads, so that one bad lead cannot
open it. While it is open, leads wait; from time to time one lead is sent as a probe, and the first success closes it.
Failures in the meantime do not use up a lead's attempts.
"""

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


def record_failure(lead_id: int, response: CustomerResponse, *, policy: CircuitPolicy, now: datetime) -> bool:
    """Count a failure of the customer's infrastructure, or slow down after a 429.

    Locks the delivery control row until the end of the caller's transaction. A permanent failure concerns the lead
    alone and changes nothing: a customer that is partly down may answer 404 to everything.

    :returns: whether the customer is down, so that the failure does not count for the lead.
    """
    if classify_response(response.status) is not ResponseClass.RETRY:
        return False
    control = DeliveryControl.objects.locked()
    if response.status == _TOO_MANY_REQUESTS:
        slow_down(control, response.retry_after, now=now)
    elif control.circuit_opened_at is None:
        _count_failure(control, lead_id, response, policy=policy, now=now)
    return control.circuit_opened_at is not None


def record_success(*, now: datetime) -> None:
    """Reset the counted failures and close the circuit breaker. Locks the row as `record_failure` does."""
    control = DeliveryControl.objects.locked()
    if control.circuit_opened_at is not None:
        down_s = round((now - control.circuit_opened_at).total_seconds())
        _record(EventKind.CIRCUIT_CLOSED, now=now, down_s=down_s, probes=control.probes)
    control.failures, control.failed_leads = 0, []
    control.circuit_opened_at, control.probes, control.next_probe_at = None, 0, None
    control.save(update_fields=["failures", "failed_leads", "circuit_opened_at", "probes", "next_probe_at"])


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


def _count_failure(
    control: DeliveryControl, lead_id: int, response: CustomerResponse, *, policy: CircuitPolicy, now: datetime
) -> None:
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
