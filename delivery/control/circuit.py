"""The circuit breaker: whether the customer is down, learned by all workers together from what leads meet on their way.

It opens after failures of the customer's infrastructure in a row, of several leads, so that one lead's bad luck is its
own. While it is open leads wait; now and then one goes out as a probe, and the first success closes it. What fails
meanwhile does not use up a lead's attempts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from delivery.client import CustomerResponse
from delivery.control.limits import slow_down
from delivery.models import DeliveryControl
from delivery.retry import ResponseClass, classify_response
from leadgateway.logging import get_logger
from leads.audit.recording import record_system_event
from leads.models import EventKind

log = get_logger(__name__)

_ACTOR = "worker"
_TOO_MANY_REQUESTS = 429
# From here on even a base of ten milliseconds has long passed any longest pause, and larger powers only cost memory.
_MAX_DOUBLINGS = 40


@dataclass(frozen=True)
class CircuitPolicy:
    """When the customer is taken for down, and how often it is tried whether it is back."""

    failures: int = 10
    """So many failures with no success between; 0: never."""
    leads: int = 5
    """Of at least so many leads."""
    base: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(minutes=5)

    def trips(self, failures: int, leads: int) -> bool:
        """Tell whether that is enough to take the customer for down."""
        return 0 < self.failures <= failures and self.leads <= leads

    def pause_after(self, probes: int) -> timedelta:
        """Return the wait before the next probe: base, doubled for each that has failed, up to the longest."""
        return min(self.base * 2 ** min(probes, _MAX_DOUBLINGS), self.longest)


def take_in(lead_id: int, answer: CustomerResponse, *, policy: CircuitPolicy, now: datetime) -> bool:
    """Learn from an exchange about the customer; tell whether it is down and the failure thus not the lead's.

    Only a success says that it is well: a customer that is half up may answer 404 to all. Locks the gate until the
    end of the caller's transaction, except for a success on a good day.
    """
    judged = classify_response(answer.status)
    if judged is ResponseClass.DELIVERED:
        _recover(now=now)
    if judged is not ResponseClass.RETRY:
        return False
    gate = DeliveryControl.objects.locked()
    if answer.status == _TOO_MANY_REQUESTS:
        slow_down(gate, answer.retry_after, now=now)
    elif gate.circuit_opened_at is None:
        _count(gate, lead_id, answer, policy=policy, now=now)
    return gate.circuit_opened_at is not None


def take_probe(gate: DeliveryControl, *, policy: CircuitPolicy, timeout: timedelta, now: datetime) -> bool:
    """Take the right to try whether the customer is back, if one is to be had; `gate` is locked.

    The next probe is set at once, for when this one must be over: its worker may die with it.
    """
    if gate.circuit(now) != "half_open":
        return False
    gate.probes += 1
    gate.next_probe_at = now + max(policy.pause_after(gate.probes), timeout)
    gate.save(update_fields=["probes", "next_probe_at"])
    return True


def _count(
    gate: DeliveryControl, lead_id: int, answer: CustomerResponse, *, policy: CircuitPolicy, now: datetime
) -> None:
    gate.failures += 1
    if lead_id not in gate.failed_leads and len(gate.failed_leads) < policy.leads:
        gate.failed_leads.append(lead_id)
    if policy.trips(gate.failures, len(gate.failed_leads)):
        gate.circuit_opened_at, gate.probes, gate.next_probe_at = now, 0, now + policy.pause_after(0)
        told = {"failures": gate.failures, "leads": len(gate.failed_leads), "last_answer": answer.error}
        _tell(EventKind.CIRCUIT_OPENED, now=now, **told)
    gate.save(update_fields=["failures", "failed_leads", "circuit_opened_at", "probes", "next_probe_at"])


def _recover(*, now: datetime) -> None:
    """Forget the failures, and close the circuit if it is open."""
    if DeliveryControl.objects.is_unrestricted():
        return
    gate = DeliveryControl.objects.locked()
    if gate.circuit_opened_at is not None:
        down_s = round((now - gate.circuit_opened_at).total_seconds())
        _tell(EventKind.CIRCUIT_CLOSED, now=now, down_s=down_s, probes=gate.probes)
    gate.failures, gate.failed_leads = 0, []
    gate.circuit_opened_at, gate.probes, gate.next_probe_at = None, 0, None
    gate.save(update_fields=["failures", "failed_leads", "circuit_opened_at", "probes", "next_probe_at"])


def _tell(kind: EventKind, *, now: datetime, **detail: Any) -> None:
    """Write it into the trail, and into the log once it is true."""
    record_system_event(kind, actor=_ACTOR, now=now, detail=detail)
    write = log.error if kind is EventKind.CIRCUIT_OPENED else log.warning
    transaction.on_commit(lambda: write(str(kind), **detail), robust=True)
