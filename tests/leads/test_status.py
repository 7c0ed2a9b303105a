import uuid

import pytest
from django.db import transaction
from django.utils import timezone

from leads.models import InboundLead, LeadStatus
from leads.status import AUTOMATIC, BY_OPERATOR, ClaimLost, TransitionNotAllowed, change_status
from tests import make

pytestmark = pytest.mark.django_db

ALLOWED = [(was, to) for was in LeadStatus for to in LeadStatus if to in AUTOMATIC[was]]
OTHERS = [(was, to) for was in LeadStatus for to in LeadStatus if to not in AUTOMATIC[was]]


def change(lead, to, **kwargs):
    change_status(lead, to, actor="worker", now=timezone.now(), **kwargs)


@pytest.mark.parametrize(("was", "to"), ALLOWED)
def test_every_allowed_transition_changes_the_row_and_records_one_event(was, to):
    lead = make.lead(status=was)

    change(lead, to, detail={"reason": "x"}, columns={"rejection_reason": "ZIP_NOT_66XXX"})

    stored = InboundLead.objects.get(pk=lead.pk)
    assert (stored.status, stored.rejection_reason, lead.status) == (to, "ZIP_NOT_66XXX", to)
    events = list(lead.events.filter(kind="status").values_list("from_status", "to_status", "actor", "detail"))
    assert events == ([(was, to, "worker", {"reason": "x"})] if was != to else [])


def test_all_other_transitions_are_refused():
    for was, to in OTHERS:
        lead = make.lead(status=was)

        with pytest.raises(TransitionNotAllowed):
            change(lead, to)

        assert InboundLead.objects.get(pk=lead.pk).status == was
        assert not lead.events.filter(kind="status").exists()


@pytest.mark.parametrize("was", ["REJECTED", "DELIVERED", "PERMANENTLY_FAILED"])
def test_only_an_operator_can_change_a_terminal_status(was):
    assert not AUTOMATIC[was]
    to = next(iter(BY_OPERATOR[was]))

    change(make.lead(status=was), to, by_operator=True)


def test_a_worker_that_lost_the_claim_changes_nothing():
    lead = make.lead(status="READY", claim_token=uuid.uuid4())

    with pytest.raises(ClaimLost), transaction.atomic():
        change(lead, LeadStatus.DELIVERED, claim=uuid.uuid4())

    assert InboundLead.objects.get(pk=lead.pk).status == "READY"
    assert not lead.events.filter(kind="status").exists()


def test_only_one_of_two_readers_of_a_row_can_change_it():
    lead = make.lead(status="READY")
    first, second = InboundLead.objects.get(pk=lead.pk), InboundLead.objects.get(pk=lead.pk)

    change(first, LeadStatus.DELIVERED)
    with pytest.raises(ClaimLost), transaction.atomic():
        change(second, LeadStatus.FAILED)

    assert InboundLead.objects.get(pk=lead.pk).status == "DELIVERED"
    assert lead.events.filter(kind="status").count() == 1
