"""The circuit breaker: when it opens, what happens to leads while it is open, and how it closes."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from delivery.client import CustomerResponse, DeliveryError
from delivery.control import circuit
from delivery.control.circuit import CircuitPolicy
from delivery.models import DeliveryControl
from leads.models import InboundLead, LeadEvent
from tests import make
from tests.background import run_at_once
from tests.delivery.conftest import advance, during_request

# No transaction around a test: workers see what other workers have committed.
pytestmark = pytest.mark.django_db(transaction=True)

POLICY = CircuitPolicy(failures=4, leads=3, base=timedelta(seconds=30), longest=timedelta(minutes=5))


@pytest.fixture
def config(config):
    return replace(config, circuit=POLICY)


def control() -> DeliveryControl:
    return DeliveryControl.objects.current()


def stored(lead):
    return InboundLead.objects.get(pk=lead.pk)


def make_due(*leads):
    InboundLead.objects.filter(pk__in=[lead.pk for lead in leads]).update(next_attempt_at=timezone.now())


def send(config, *leads):
    """Send each lead, if delivery control allows it."""
    for lead in leads:
        make_due(lead)
        advance(lead.pk, config=config)


def system_events():
    return [event.kind for event in LeadEvent.objects.filter(lead=None).order_by("pk")]


def take_down(*, probe_in=timedelta(), **columns):
    now = timezone.now()
    values = {
        "failures": 4,
        "circuit_opened_at": now - timedelta(minutes=10),
        "next_probe_at": now + probe_in,
        **columns,
    }
    DeliveryControl.objects.update_or_create(pk=1, defaults=values)


# --- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["status=503", "reset=1"])
def test_consecutive_failures_of_several_leads_open_it(config, customer, mode):
    customer.set_mode(mode)
    one, two, three = make.lead(), make.lead(), make.lead(status="FAILED")
    for _ in range(4):
        make.attempt(three)

    send(config, one, one, two)
    assert control().circuit(timezone.now()) == "closed"
    send(config, three)

    assert control().circuit(timezone.now()) == "open"
    assert system_events() == ["circuit_opened"]
    opened = LeadEvent.objects.get(lead=None)
    assert (opened.detail["failures"], opened.detail["leads"]) == (4, 3)
    assert opened.detail["last_answer"]
    assert stored(three).status == "FAILED"  # its last attempt does not count


def test_failures_of_one_lead_do_not_open_it(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()

    send(config, *[lead] * 5)

    assert stored(lead).status == "PERMANENTLY_FAILED"
    assert control().circuit(timezone.now()) == "closed"


def test_a_success_resets_the_count(config, customer):
    leads = [make.lead() for _ in range(5)]
    customer.set_mode("status=503")
    send(config, *leads[:3])
    customer.set_mode("")
    send(config, make.lead())
    customer.set_mode("status=503")

    send(config, *leads[:3])

    assert control().failures == 3
    assert system_events() == []


@pytest.mark.parametrize("status", [429, 404])
def test_other_responses_neither_count_nor_reset(config, customer, status):
    customer.set_mode("status=503")
    send(config, make.lead())
    customer.set_mode(f"status={status}&retry_after=0")

    send(config, *(make.lead() for _ in range(5)))

    assert control().failures == 1


def test_zero_failures_disable_it(config, customer):
    customer.set_mode("status=503")

    send(replace(config, circuit=replace(POLICY, failures=0)), *(make.lead() for _ in range(6)))

    assert system_events() == []
    assert len(customer.requests) == 6


def test_many_workers_open_it_once(config):
    """Eight workers fail at the same moment: every failure is counted, and the circuit breaker opens once."""
    policy = replace(POLICY, failures=8, leads=8)
    failure = CustomerResponse(503, "", DeliveryError("http_status", {"status": 503}), None, duration_ms=1)
    leads = [make.lead().pk for _ in range(8)]

    def fail(lead_id):
        with transaction.atomic():
            circuit.record_responses([(lead_id, failure)], restrictions_exist=False, policy=policy, now=timezone.now())

    run_at_once(*(partial(fail, lead_id) for lead_id in leads))

    assert control().failures == 8
    assert sorted(control().failed_leads) == sorted(leads)
    assert system_events() == ["circuit_opened"]


def test_a_failure_after_the_claim_was_lost_does_not_count(config, customer):
    customer.set_mode("status=503")
    lead = make.lead()

    def lose_claim():
        InboundLead.objects.filter(pk=lead.pk).update(claim_token=None)

    send(during_request(config, after=lose_claim), lead)

    assert control().failures == 0


# --- while it is open ------------------------------------------------------------------------------------------------


def test_while_it_is_open_a_lead_is_checked_and_waits_without_an_attempt(config, customer):
    take_down(probe_in=timedelta(minutes=1))
    lead, invalid = make.lead(), make.lead(raw_payload=make.payload(zipcode="10115"))
    due = lead.next_attempt_at

    assert advance(lead.pk, config=config) is None
    assert advance(invalid.pk, config=config) is None

    assert stored(invalid).status == "REJECTED"

    waiting = stored(lead)
    assert (waiting.status, waiting.next_attempt_at, waiting.enqueued_at) == ("READY", due, None)
    assert (waiting.claim_token, waiting.claimed_until) == (None, None)
    assert not lead.attempts.exists()
    assert customer.requests == []


def test_a_request_in_progress_when_it_opens_does_not_count_for_its_lead(config, customer):
    customer.set_mode("status=503")
    last_chance = make.lead(status="FAILED")
    for _ in range(4):
        make.attempt(last_chance)

    send(during_request(config, before=lambda: take_down(probe_in=timedelta(minutes=1))), last_chance)

    waiting = stored(last_chance)
    assert (waiting.status, waiting.uncounted_attempts) == ("FAILED", 1)
    assert waiting.next_attempt_at == last_chance.attempts.latest("attempt_no").finished_at + timedelta(seconds=240)


# --- probes ----------------------------------------------------------------------------------------------------------


def test_one_lead_is_the_probe_and_the_others_wait(config, customer):
    customer.set_mode("status=503")
    take_down()
    probe, other = make.lead(), make.lead()

    send(config, probe, other)

    assert len(customer.requests) == 1
    assert (stored(probe).status, stored(other).status) == ("FAILED", "READY")


def test_the_wait_between_probes_doubles_up_to_the_maximum(config, customer):
    customer.set_mode("status=503")
    take_down()
    waits = []

    for _ in range(6):
        lead = make.lead()
        DeliveryControl.objects.update(next_probe_at=timezone.now())
        send(config, lead)
        waits.append(round((control().next_probe_at - lead.attempts.get().requested_at).total_seconds()))

    assert waits == [60, 120, 240, 300, 300, 300]
    assert control().probes == 6


def test_probes_do_not_use_up_attempts(config, customer):
    take_down()
    lead = make.lead()

    for mode in ("status=429", *["status=503"] * 5):
        customer.set_mode(mode)
        DeliveryControl.objects.update(next_probe_at=timezone.now())
        send(config, lead)

    assert lead.attempts.count() == stored(lead).uncounted_attempts == 6
    assert stored(lead).status == "FAILED"
    assert stored(lead).next_attempt_at - lead.attempts.latest("attempt_no").finished_at == timedelta(seconds=30)


def test_a_success_closes_it_and_leads_are_sent(config, customer):
    take_down(failed_leads=[1, 2, 3], probes=3)
    first, second = make.lead(), make.lead()

    send(config, first, second)

    assert (stored(first).status, stored(second).status) == ("DELIVERED", "DELIVERED")
    assert system_events() == ["circuit_closed"]
    detail = LeadEvent.objects.get(lead=None).detail
    assert detail["probes"] == 4
    assert 600 <= detail["down_s"] < 660
    closed = control()
    assert (closed.failures, closed.failed_leads, closed.probes, closed.circuit_opened_at) == (0, [], 0, None)


@pytest.mark.parametrize("status", [404, 429])
def test_other_responses_do_not_close_it(config, customer, status):
    customer.set_mode(f"status={status}")
    take_down()

    send(config, make.lead())

    assert control().circuit(timezone.now()) == "open"


def test_only_one_of_many_workers_gets_the_probe():
    take_down()
    taken = []

    def try_to_take():
        with transaction.atomic():
            locked = DeliveryControl.objects.locked()
            if circuit.take_probe(locked, policy=POLICY, timeout=timedelta(seconds=2), now=timezone.now()):
                taken.append(1)

    run_at_once(*[try_to_take] * 8)

    assert len(taken) == control().probes == 1


def test_a_probe_whose_worker_stops_does_not_block_the_next_probe(config, customer):
    class Died(BaseException):
        """Stands for SIGKILL."""

    def die():
        raise Died

    take_down()
    victim, other = make.lead(), make.lead()
    with pytest.raises(Died):
        send(during_request(config, before=die), victim)
    send(config, other)
    assert customer.requests == []  # the probe can still be in progress

    DeliveryControl.objects.update(next_probe_at=timezone.now())  # as if the time had passed
    send(config, other)

    assert stored(other).status == "DELIVERED"
    assert control().circuit(timezone.now()) == "closed"


def test_the_next_probe_is_not_due_before_the_last_one_must_have_ended():
    take_down()
    now = timezone.now()
    with transaction.atomic():
        locked = DeliveryControl.objects.locked()
        assert circuit.take_probe(locked, policy=POLICY, timeout=timedelta(seconds=100), now=now)

    assert control().next_probe_at == now + timedelta(seconds=100)


def test_a_huge_number_of_probes_has_the_maximum_wait():
    assert POLICY.wait_before_probe(10**9) == timedelta(minutes=5)
