"""Holding and resuming delivery, from the command line to the row, the trail and the leads."""

import threading
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from delivery.control import pause, permission
from delivery.models import DeliveryControl
from delivery.pipeline import advance
from leads.models import InboundLead, LeadEvent
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()


def run(*args):
    out = StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def test_while_delivery_is_held_nothing_is_sent_and_everything_is_accepted(config, customer):
    run("pause_delivery", "--reason", "their maintenance")
    leads = [make.lead(), make.lead(status="READY"), make.lead(status="FAILED")]

    for lead in leads:
        advance(lead.pk, config=config)

    assert [InboundLead.objects.get(pk=lead.pk).status for lead in leads] == ["READY", "READY", "FAILED"]
    assert customer.requests == []
    assert permission.waiting(timezone.now()) == 3


def test_after_resuming_leads_go_out(config, customer):
    run("pause_delivery", "--reason", "their maintenance")
    lead = make.lead()
    advance(lead.pk, config=config)

    assert run("resume_delivery") == "Delivery is resumed. 1 lead waiting.\n"
    advance(lead.pk, config=config)

    assert InboundLead.objects.get().status == "DELIVERED"


def test_the_trail_says_who_and_why():
    pause.pause_delivery(actor="anna", reason="their maintenance", now=NOW)
    pause.resume_delivery(actor="bert", reason="they are done", now=NOW + timedelta(minutes=5))

    held, resumed = LeadEvent.objects.order_by("pk")
    assert (held.kind, held.lead, held.actor, held.at) == ("delivery_paused", None, "anna", NOW)
    assert held.detail == {"reason": "their maintenance"}
    assert (resumed.kind, resumed.actor) == ("delivery_resumed", "bert")
    assert resumed.detail == {"paused_s": 300, "reason": "they are done"}


def test_doing_it_twice_changes_nothing_and_says_so():
    assert "Leads wait until you run resume_delivery" in run("pause_delivery", "--reason", "first")
    again = run("pause_delivery", "--reason", "second")
    assert again.startswith("Nothing changed. Delivery has been paused by ")
    assert again.endswith(": first.\n")

    run("resume_delivery")
    assert run("resume_delivery") == "Nothing changed. Delivery is not paused.\n"
    assert LeadEvent.objects.count() == 2


def test_a_reason_is_asked_for():
    with pytest.raises(CommandError, match="--reason"):
        run("pause_delivery")


def test_resuming_says_when_the_customer_is_down_all_the_same():
    DeliveryControl.objects.create(paused_at=NOW, circuit_opened_at=NOW, next_probe_at=NOW + timedelta(minutes=3))

    assert "The customer has been marked as down since" in run("resume_delivery")


def test_a_probe_does_not_leave_while_delivery_is_held(config, customer):
    DeliveryControl.objects.create(
        paused_at=NOW, paused_by="anna", pause_reason="x", circuit_opened_at=NOW, next_probe_at=NOW
    )

    advance(make.lead().pk, config=config)

    assert customer.requests == []


@pytest.mark.parametrize(
    "state", [{"paused_at": NOW, "paused_by": "anna"}, {"circuit_opened_at": NOW, "next_probe_at": NOW}]
)
def test_requeueing_by_hand_says_what_the_leads_wait_for(state):
    DeliveryControl.objects.create(**state)
    make.lead(next_attempt_at=NOW - timedelta(hours=1))

    with pytest.raises(CommandError, match="since"):
        run("requeue_stuck")


def test_the_history_of_a_lead_says_that_delivery_is_held():
    pause.pause_delivery(actor="anna", reason="their maintenance", now=NOW)

    assert "Delivery is held since" in run("lead_history", str(make.lead(status="READY").pk))
    assert "Delivery is held since" not in run("lead_history", str(make.lead(status="DELIVERED").pk))


@pytest.mark.needs_postgres
def test_who_freezes_with_the_gate_loses_it():
    DeliveryControl.objects.create(pk=1)
    taken, let_go, lost = threading.Event(), threading.Event(), []

    def freeze():
        try:
            with transaction.atomic():
                DeliveryControl.objects.locked()
                taken.set()
                let_go.wait(60)
        except DatabaseError as error:
            lost.append(error)
        finally:
            connection.close()

    frozen = threading.Thread(target=freeze)
    frozen.start()
    taken.wait(10)

    with suppress(OperationalError):  # nobody waits for ever either
        pause.pause_delivery(actor="bob", reason="they ask for it", now=NOW)
    pause.pause_delivery(actor="bob", reason="they ask for it", now=NOW)

    assert DeliveryControl.objects.current().paused_by == "bob"
    let_go.set()
    frozen.join()
    assert lost
