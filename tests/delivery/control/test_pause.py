"""Pausing and resuming delivery: the commands, the row, the audit log and the leads."""

import threading
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from delivery.control import pause
from delivery.models import DeliveryControl
from leads.models import InboundLead, LeadEvent
from tests import make
from tests.delivery.conftest import advance

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()


def run(*args):
    out = StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def test_while_delivery_is_paused_leads_are_checked_but_not_sent(config, customer):
    run("pause_delivery", "--reason", "their maintenance")
    leads = [make.lead(), make.lead(status="READY"), make.lead(status="FAILED")]

    for lead in leads:
        advance(lead.pk, config=config)

    assert [InboundLead.objects.get(pk=lead.pk).status for lead in leads] == ["READY", "READY", "FAILED"]
    assert customer.requests == []
    assert InboundLead.objects.due(timezone.now()).count() == 3

    assert run("resume_delivery") == "Delivery is resumed. 3 leads waiting.\n"
    advance(leads[0].pk, config=config)

    assert InboundLead.objects.get(pk=leads[0].pk).status == "DELIVERED"


def test_the_audit_log_has_the_actor_and_the_reason():
    pause.pause_delivery(actor="anna", reason="their maintenance", now=NOW)
    pause.resume_delivery(actor="bert", reason="they are done", now=NOW + timedelta(minutes=5))

    paused, resumed = LeadEvent.objects.order_by("pk")
    assert (paused.kind, paused.lead, paused.actor, paused.at) == ("delivery_paused", None, "anna", NOW)
    assert paused.detail == {"reason": "their maintenance"}
    assert (resumed.kind, resumed.actor) == ("delivery_resumed", "bert")
    assert resumed.detail == {"paused_s": 300, "reason": "they are done"}


def test_pausing_or_resuming_twice_changes_nothing():
    assert "Leads wait until you run resume_delivery" in run("pause_delivery", "--reason", "first")
    again = run("pause_delivery", "--reason", "second")
    assert again.startswith("Nothing changed.")
    assert again.endswith(": first.\n")

    run("resume_delivery")
    assert run("resume_delivery") == "Nothing changed. Delivery is not paused.\n"
    assert LeadEvent.objects.count() == 2


def test_a_reason_is_required():
    with pytest.raises(CommandError, match="--reason"):
        run("pause_delivery")


def test_resuming_says_that_the_customer_is_down():
    DeliveryControl.objects.create(paused_at=NOW, circuit_opened_at=NOW, next_probe_at=NOW + timedelta(minutes=3))

    assert "The customer has been marked as down since" in run("resume_delivery")


def test_no_probe_is_sent_while_delivery_is_paused(config, customer):
    DeliveryControl.objects.create(
        paused_at=NOW, paused_by="anna", pause_reason="x", circuit_opened_at=NOW, next_probe_at=NOW
    )

    advance(make.lead().pk, config=config)

    assert customer.requests == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"paused_at": NOW, "paused_by": "anna"}, "Delivery has been paused by anna since"),
        ({"circuit_opened_at": NOW, "next_probe_at": NOW}, "The customer has been marked as down since"),
    ],
)
def test_requeue_stuck_says_why_the_leads_wait(state, reason):
    DeliveryControl.objects.create(**state)
    make.lead(next_attempt_at=NOW - timedelta(hours=1))

    with pytest.raises(CommandError, match=reason):
        run("requeue_stuck")


def test_the_history_of_a_lead_says_that_delivery_is_paused():
    pause.pause_delivery(actor="anna", reason="their maintenance", now=NOW)

    assert "Delivery paused by" in run("lead_history", str(make.lead(status="READY").pk))
    assert "Delivery paused by" not in run("lead_history", str(make.lead(status="DELIVERED").pk))


@pytest.mark.needs_postgres
def test_a_frozen_process_loses_the_lock_of_the_delivery_control_row():
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

    with suppress(OperationalError):  # waiting for the lock has a limit too
        pause.pause_delivery(actor="bob", reason="they ask for it", now=NOW)
    pause.pause_delivery(actor="bob", reason="they ask for it", now=NOW)

    assert DeliveryControl.objects.current().paused_by == "bob"
    let_go.set()
    frozen.join()
    assert lost
