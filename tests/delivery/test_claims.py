from datetime import timedelta
from itertools import product

import pytest
from django.utils import timezone

from delivery import pipeline
from delivery.models import DeliveryControl
from delivery.pipeline import CLOCK_TOLERANCE, LEASE_MARGIN
from leads.models import InboundLead, LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

TIMEOUT = timedelta(seconds=30)
HOUR = timedelta(hours=1)


def claim(lead):
    return next(iter(pipeline.claim([lead.pk], request_timeout=TIMEOUT)), None)


def test_a_claim_returns_the_lead_with_its_lease_and_token():
    lead = make.lead(status="FAILED", enqueued_at=timezone.now())
    before = timezone.now()

    taken = claim(lead)

    stored = InboundLead.objects.get(pk=lead.pk)
    assert (taken.token, taken.until) == (stored.claim_token, stored.claimed_until)
    assert before + TIMEOUT + LEASE_MARGIN <= taken.until <= timezone.now() + TIMEOUT + LEASE_MARGIN
    assert stored.enqueued_at is None
    for field in InboundLead._meta.concrete_fields:
        assert getattr(taken.lead, field.name) == getattr(stored, field.name)


@pytest.mark.parametrize("status", LeadStatus)
def test_exactly_the_leads_that_are_due_can_be_claimed(status):
    now = timezone.now()
    times = [None, now - HOUR, now + HOUR]
    leads = [
        make.lead(status=status, next_attempt_at=due, claimed_until=leased) for due, leased in product(times, times)
    ]
    due = set(InboundLead.objects.due(now).values_list("pk", flat=True))

    assert {lead.pk for lead in leads if claim(lead)} == due


def test_a_message_can_arrive_early_by_the_difference_of_two_clocks():
    assert claim(make.lead(next_attempt_at=timezone.now() + CLOCK_TOLERANCE / 2))


def test_a_claim_knows_the_number_of_attempts():
    lead, other = make.lead(status="FAILED"), make.lead(status="FAILED")
    make.attempt(lead)
    make.attempt(lead)

    assert (claim(lead).attempts_made, claim(other).attempts_made) == (2, 0)


@pytest.mark.parametrize(
    ("state", "restrictions_exist"),
    [
        ({}, False),
        ({"paused_at": timezone.now()}, True),
        ({"circuit_opened_at": timezone.now()}, True),
        ({"failures": 1}, True),
        ({"next_send_at": timezone.now() + HOUR}, True),
        ({"next_send_at": timezone.now() - HOUR}, False),
    ],
)
def test_a_claim_knows_whether_delivery_control_has_restrictions(state, restrictions_exist):
    DeliveryControl.objects.create(**state)

    assert claim(make.lead()).restrictions_exist is restrictions_exist


def test_several_leads_are_claimed_with_one_statement(django_assert_num_queries):
    due, later, other = make.lead(), make.lead(next_attempt_at=timezone.now() + HOUR), make.lead(status="FAILED")
    make.attempt(other)

    with django_assert_num_queries(1):
        claims = pipeline.claim([other.pk, later.pk, due.pk, 2_000_000_000], request_timeout=TIMEOUT)

    assert [(taken.lead.pk, taken.attempts_made) for taken in claims] == [(due.pk, 0), (other.pk, 1)]
    assert InboundLead.objects.get(pk=later.pk).claim_token is None
