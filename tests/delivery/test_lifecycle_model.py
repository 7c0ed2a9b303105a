"""The life cycle of leads against a model: senders, workers, the sweep and operators act in any order.

A worker's job is split into the part before the request and the part after it, so that anything can happen in between;
a worker that never continues has stopped. An hour passes by moving all stored times an hour into the past.
"""

import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from delivery import pipeline
from delivery.bulk_actions.lead_actions import ActionNotAllowed, redeliver, reprocess, resolve
from delivery.client import CustomerResponse, DeliveryError
from delivery.control.circuit import CircuitPolicy
from delivery.control.pause import pause_delivery, resume_delivery
from delivery.models import DeliveryAttempt, DeliveryControl
from delivery.retry import RetryPolicy
from delivery.sweep import sweep
from leadgateway import queue
from leads.audit.verification import Anchors, check
from leads.models import InboundLead, LeadStatus
from leads.webhook.strict_json import ParsedObject
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
MAX_ATTEMPTS = 3
#: The customer's response; None: there is none.
STATUSES = st.sampled_from([200, 200, 503, None, 429, 404])
ZIPCODES = st.sampled_from(["66123", "66123", "66123", "12345"])
PHONES = st.sampled_from([make.PHONE, make.PHONE, make.PHONE, ""])

FINISHED = (LeadStatus.REJECTED, LeadStatus.DELIVERED, LeadStatus.PERMANENTLY_FAILED)


@dataclass
class Work:
    """A request in progress, and whether its worker's lease has not expired."""

    delivery: pipeline.Delivery
    is_leased: bool = True

    @property
    def lead_id(self) -> int:
        return self.delivery.claim.lead.pk


class LifeCycle(RuleBasedStateMachine):
    """The possible steps, and what must hold after each of them."""

    leads = Bundle("leads")
    works = Bundle("works")

    config: pipeline.Configuration
    enqueued: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.payloads: dict[int, ParsedObject] = {}
        #: Lead -> the worker that has claimed it. After the lease the worker keeps it until another one claims it.
        self.owners: dict[int, Work] = {}
        #: Lead -> the token of a claim whose worker has already stopped.
        self.intruders: dict[int, uuid.UUID] = {}
        self.delivered: set[int] = set()
        DeliveryControl.objects.all().delete()

    # --- senders ---

    @initialize(target=leads)
    def post_a_good_one(self) -> int:
        return self.post("66123", make.PHONE)

    # Few leads, so that many steps concern each of them.
    @precondition(lambda self: len(self.payloads) < 3)
    @rule(target=leads, zipcode=ZIPCODES, phone=PHONES)
    def post(self, zipcode: str, phone: str) -> int:
        parsed = ParsedObject(make.payload(zipcode=zipcode, phone=phone), ())
        receipt = self.receive(parsed)
        assert not receipt.duplicate
        self.payloads[receipt.lead_id] = parsed
        return receipt.lead_id

    @rule(lead_id=leads)
    def post_again(self, lead_id: int) -> None:
        receipt = self.receive(self.payloads[lead_id])
        assert (receipt.lead_id, receipt.duplicate) == (lead_id, True)

    def receive(self, parsed: ParsedObject):
        return make.receive(make.new_lead(parsed), dedup_window=timedelta(days=9999))

    # --- workers ---

    @rule(target=works, lead_ids=st.lists(leads, min_size=1, max_size=3, unique=True))
    def begin(self, lead_ids: list[int]):
        works = self.begun(lead_ids)
        self.sweep()  # Beat starts it all the time.
        return multiple(*works)

    @rule(
        lead_ids=st.lists(leads, min_size=1, max_size=3, unique=True),
        statuses=st.lists(STATUSES, min_size=3, max_size=3),
    )
    def try_in_an_hour(self, lead_ids: list[int], statuses: list[int | None]) -> None:
        self.an_hour_passes()
        self.settle(list(zip(self.begun(lead_ids), statuses, strict=False)))

    @rule(target=works, lead_id=leads)
    def begin_in_an_hour(self, lead_id: int):
        self.an_hour_passes()
        return self.begin([lead_id])

    @rule(target=works, lead_ids=st.lists(leads, min_size=2, max_size=3, unique=True))
    def begin_while_one_lead_of_the_group_changes(self, lead_ids: list[int]):
        """Between claim and attempt, the lease of one lead ends and another worker claims it, and stops."""

        def interfere(claims: list[pipeline.Claim]) -> None:
            lost = claims[0].lead.pk
            InboundLead.objects.filter(pk=lost).update(
                claimed_until=F("claimed_until") - HOUR, claim_token=uuid.uuid4()
            )
            self.intruders[lost] = InboundLead.objects.values_list("claim_token", flat=True).get(pk=lost)

        return multiple(*self.begun(lead_ids, then=interfere))

    def begun(self, lead_ids: list[int], then=lambda claims: None) -> list[Work]:
        """Claim leads and store the attempts. Return those that may be sent."""
        was = InboundLead.objects.in_bulk(lead_ids)
        claims = pipeline.claim(lead_ids, request_timeout=self.config.customer.timeout)
        now = timezone.now()
        may = {
            lead_id
            for lead_id, lead in was.items()
            if lead.status not in FINISHED
            and lead.next_attempt_at is not None
            and lead.next_attempt_at <= now
            and not self.is_leased(lead_id)
        }
        assert [claim.lead.pk for claim in claims] == sorted(may)
        for claim in claims:
            self.owners.pop(claim.lead.pk, None)
            self.intruders.pop(claim.lead.pk, None)
        if not claims:
            return []
        then(claims)
        deliveries = pipeline.prepare(claims, config=self.config)
        assert not (deliveries and DeliveryControl.objects.current().paused_at)
        for delivery in deliveries:
            lead_id = delivery.claim.lead.pk
            assert lead_id not in self.intruders
            assert delivery.attempt.attempt_no - self.row(lead_id).uncounted_attempts <= MAX_ATTEMPTS
            self.owners[lead_id] = Work(delivery)
        return [self.owners[delivery.claim.lead.pk] for delivery in deliveries]

    @rule(work=consumes(works), status=STATUSES)
    def finish(self, work: Work, status: int | None) -> None:
        self.settle([(work, status)])

    @rule(work=consumes(works), other=consumes(works), statuses=st.tuples(STATUSES, STATUSES))
    def finish_together(self, work: Work, other: Work, statuses: tuple[int | None, int | None]) -> None:
        """Two results of one group; the claim of one of them, or of both, can be lost."""
        self.settle(list(zip((work, other), statuses, strict=True)))

    def settle(self, works: list[tuple[Work, int | None]]) -> None:
        results = []
        for work, status in works:
            if status is None:
                error = DeliveryError("connection_reset")
            else:
                error = None if status == 200 else DeliveryError("http_status", {"status": status})
            response = CustomerResponse(status, body="", error=error, retry_after=None, duration_ms=1)
            results.append(pipeline.Result(work.delivery, response))
        if not results:
            return
        pipeline.settle(results, config=self.config)
        for work, status in works:
            attempt = DeliveryAttempt.objects.get(pk=work.delivery.attempt.pk)
            owns = self.owners.get(work.lead_id) is work
            assert attempt.has_outcome == owns  # who has lost the claim stores nothing
            if owns:
                del self.owners[work.lead_id]
                if status == 200:
                    self.delivered.add(work.lead_id)

    @rule(work=consumes(works))
    def die(self, work: Work) -> None:
        """Stop without a trace: there is nothing to do."""

    @rule()
    def an_hour_passes(self) -> None:
        times = ("next_attempt_at", "claimed_until", "enqueued_at")
        InboundLead.objects.update(**{name: F(name) - HOUR for name in times})
        DeliveryControl.objects.update(next_probe_at=F("next_probe_at") - HOUR, next_send_at=F("next_send_at") - HOUR)
        for work in self.owners.values():
            work.is_leased = False

    @rule()
    def sweep(self) -> None:
        self.enqueued.clear()
        now = timezone.now()
        due = set(InboundLead.objects.due(now).values_list("pk", flat=True))
        sweep(now=now)
        assert len(self.enqueued) == len(set(self.enqueued))
        assert set(self.enqueued) <= due
        assert not any(map(self.is_leased, self.enqueued))
        if not DeliveryControl.objects.current().is_blocked:
            assert not InboundLead.objects.due(now).filter(enqueued_at=None).exists()

    # --- operators ---

    @rule(lead_id=leads, what=st.sampled_from([redeliver, reprocess, resolve]))
    def act(self, lead_id: int, what) -> None:
        was = self.row(lead_id)
        try:
            what(lead_id, actor="ann", reason="why not", now=timezone.now())
        except ActionNotAllowed:
            now = self.row(lead_id)
            assert (now.status, now.claim_token, now.next_attempt_at) == (
                was.status,
                was.claim_token,
                was.next_attempt_at,
            )
            return
        if what is not resolve:
            assert not self.is_leased(lead_id)
            self.owners.pop(lead_id, None)
            self.intruders.pop(lead_id, None)
            self.delivered.discard(lead_id)

    @rule()
    def pause(self) -> None:
        pause_delivery(actor="ann", reason="holiday", now=timezone.now())

    @rule()
    def resume(self) -> None:
        resume_delivery(actor="ann", now=timezone.now())

    # --- invariants ---

    def is_leased(self, lead_id: int) -> bool:
        return lead_id in self.owners and self.owners[lead_id].is_leased

    def row(self, lead_id: int) -> InboundLead:
        return InboundLead.objects.get(pk=lead_id)

    @invariant()
    def exactly_the_accepted_leads_are_delivered(self) -> None:
        rows = InboundLead.objects.filter(pk__in=self.payloads)
        assert {row.pk for row in rows if row.status == LeadStatus.DELIVERED} == self.delivered
        taken = DeliveryAttempt.objects.filter(success=True).values_list("lead_id", flat=True)
        assert self.delivered <= set(taken)

    @invariant()
    def open_leads_are_due_and_finished_leads_are_not_claimed(self) -> None:
        for row in InboundLead.objects.filter(pk__in=self.payloads):
            is_over = row.status in FINISHED or row.rejection_reason == "MISSING_REQUIRED_FIELD"
            assert (row.next_attempt_at is None) == is_over
            owner = self.owners.get(row.pk)
            token = owner.delivery.claim.token if owner else self.intruders.get(row.pk)
            assert row.claim_token == token

    def teardown(self) -> None:
        for lead_id in self.payloads:
            numbers = DeliveryAttempt.objects.filter(lead=lead_id).order_by("attempt_no")
            assert [attempt.attempt_no for attempt in numbers] == list(range(1, len(numbers) + 1))
        # Every event is in its hash chain, and the last status event has the row's status.
        assert not [checked for checked in check(list(self.payloads), anchors=Anchors()) if checked.problem]
        # Later examples must not find these leads.
        InboundLead.objects.update(next_attempt_at=None)


def test_any_order_of_steps_keeps_the_leads_consistent(config, monkeypatch):
    enqueued: list[int] = []
    monkeypatch.setattr(queue, "enqueue", lambda lead_ids, **_: enqueued.extend(lead_ids))
    monkeypatch.setattr(queue, "depth", lambda: 0)
    LifeCycle.enqueued = enqueued
    LifeCycle.config = replace(
        config,
        policy=RetryPolicy(max_attempts=MAX_ATTEMPTS, base=timedelta(seconds=30)),
        circuit=CircuitPolicy(failures=3, leads=2),
    )

    run_state_machine_as_test(
        LifeCycle, settings=settings(max_examples=max(settings.default.max_examples // 8, 1), stateful_step_count=40)
    )
