"""A lead's whole life, against a model of it: what senders, workers, the sweep and operators do, in any order.

Workers are cut into what they do before a request and after it, so that anything may happen in between; a worker that
never comes back has died. An hour passes by moving everything that is stored an hour into the past.
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
from delivery.client import CustomerResponse
from delivery.control.circuit import CircuitPolicy
from delivery.control.pause import pause_delivery, resume
from delivery.models import DeliveryAttempt, DeliveryControl
from delivery.retry import RetryPolicy
from delivery.sweep import sweep
from leadgateway import queue
from leads.audit.verification import Anchors, check
from leads.models import InboundLead, LeadStatus
from leads.status import ClaimLost
from leads.webhook.intake import receive
from leads.webhook.strict_json import ParsedObject
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
MAX_ATTEMPTS = 3
#: What the customer answers, or None when nothing comes.
STATUSES = st.sampled_from([200, 200, 503, None, 429, 404])
ZIPCODES = st.sampled_from(["66123", "66123", "66123", "12345"])
PHONES = st.sampled_from([make.PHONE, make.PHONE, make.PHONE, ""])

AT_REST = (LeadStatus.REJECTED, LeadStatus.DELIVERED, LeadStatus.PERMANENTLY_FAILED)


@dataclass
class Work:
    """A request that is under way, and whether its worker's lease still runs."""

    claim: pipeline.Claim
    attempt: DeliveryAttempt
    is_leased: bool = True


class LeadHistory(RuleBasedStateMachine):
    """What may be done, and what has to hold after each step."""

    leads = Bundle("leads")
    works = Bundle("works")

    config: pipeline.Configuration
    rung: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.payloads: dict[int, ParsedObject] = {}
        #: Who has which lead. One whose lease has run out has it until somebody else comes.
        self.owners: dict[int, Work] = {}
        self.delivered: set[int] = set()
        DeliveryControl.objects.all().delete()

    # --- senders ---

    @initialize(target=leads)
    def post_a_good_one(self) -> int:
        return self.post("66123", make.PHONE)

    # So few that much happens to each.
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
        told = {"headers": {}, "correlation_id": str(uuid.uuid4()), "at": timezone.now()}
        return receive(parsed, **told, dedup_window=timedelta(days=9999))

    # --- workers ---

    @rule(target=works, lead_id=leads)
    def begin(self, lead_id: int):
        work = self.begun(lead_id)
        self.ring_for_what_is_due()  # beat ticks all the time
        return multiple(*([work] if work else []))

    @rule(lead_id=leads, status=STATUSES)
    def try_in_an_hour(self, lead_id: int, status: int | None) -> None:
        self.an_hour_passes()
        if work := self.begun(lead_id):
            self.finish(work, status)

    @rule(target=works, lead_id=leads)
    def begin_in_an_hour(self, lead_id: int):
        self.an_hour_passes()
        return self.begin(lead_id)

    def begun(self, lead_id: int) -> Work | None:
        """Take a lead if it is to be had, and write the attempt down; None when it does not go out."""
        was = self.row(lead_id)
        claim = pipeline._claim(lead_id, lease=self.config.lease)
        may = was.status not in AT_REST and was.next_attempt_at is not None and was.next_attempt_at <= timezone.now()
        assert (claim is not None) == (may and not self.is_leased(lead_id))
        if claim is None:
            return None
        self.owners.pop(lead_id, None)
        attempt = pipeline._prepare(claim, config=self.config)
        if attempt is None:
            return None
        assert DeliveryControl.objects.current().paused_at is None
        assert attempt.attempt_no - self.row(lead_id).uncounted_attempts <= MAX_ATTEMPTS
        self.owners[lead_id] = Work(claim, attempt)
        return self.owners[lead_id]

    @rule(work=consumes(works), status=STATUSES)
    def finish(self, work: Work, status: int | None) -> None:
        lead_id = work.claim.lead.pk
        error = None if status == 200 else f"HTTP {status}"
        answer = CustomerResponse(status, body="", error=error, retry_after=None, duration_ms=1)
        try:
            pipeline._settle(work.claim, work.attempt, answer, config=self.config)
        except ClaimLost:
            assert self.owners.get(lead_id) is not work
            return
        assert self.owners.pop(lead_id) is work
        if status == 200:
            self.delivered.add(lead_id)

    @rule(work=consumes(works))
    def die(self, work: Work) -> None:
        """End without a word: nothing is to be done for that."""

    @rule()
    def an_hour_passes(self) -> None:
        times = ("next_attempt_at", "claimed_until", "enqueued_at")
        InboundLead.objects.update(**{name: F(name) - HOUR for name in times})
        DeliveryControl.objects.update(next_probe_at=F("next_probe_at") - HOUR, next_send_at=F("next_send_at") - HOUR)
        for work in self.owners.values():
            work.is_leased = False

    @rule()
    def ring_for_what_is_due(self) -> None:
        self.rung.clear()
        now = timezone.now()
        due = set(InboundLead.objects.due(now).values_list("pk", flat=True))
        sweep(now=now)
        assert len(self.rung) == len(set(self.rung))
        assert set(self.rung) <= due
        assert not any(map(self.is_leased, self.rung))
        if not DeliveryControl.objects.current().is_blocked:
            assert not InboundLead.objects.due(now).filter(enqueued_at=None).exists()

    # --- operators ---

    @rule(lead_id=leads, what=st.sampled_from([redeliver, reprocess, resolve]))
    def order(self, lead_id: int, what) -> None:
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
            self.delivered.discard(lead_id)

    @rule()
    def hold(self) -> None:
        pause_delivery(actor="ann", reason="holiday", now=timezone.now())

    @rule()
    def resume(self) -> None:
        resume(actor="ann", now=timezone.now())

    # --- what always holds ---

    def is_leased(self, lead_id: int) -> bool:
        return lead_id in self.owners and self.owners[lead_id].is_leased

    def row(self, lead_id: int) -> InboundLead:
        return InboundLead.objects.get(pk=lead_id)

    @invariant()
    def only_what_was_taken_counts_as_delivered(self) -> None:
        rows = InboundLead.objects.filter(pk__in=self.payloads)
        assert {row.pk for row in rows if row.status == LeadStatus.DELIVERED} == self.delivered
        taken = DeliveryAttempt.objects.filter(success=True).values_list("lead_id", flat=True)
        assert self.delivered <= set(taken)

    @invariant()
    def nothing_is_forgotten_and_nothing_at_rest_is_worked_on(self) -> None:
        for row in InboundLead.objects.filter(pk__in=self.payloads):
            is_over = row.status in AT_REST or row.rejection_reason == "MISSING_REQUIRED_FIELD"
            assert (row.next_attempt_at is None) == is_over
            owner = self.owners.get(row.pk)
            assert row.claim_token == (owner.claim.token if owner else None)

    def teardown(self) -> None:
        for lead_id in self.payloads:
            numbers = DeliveryAttempt.objects.filter(lead=lead_id).order_by("attempt_no")
            assert [attempt.attempt_no for attempt in numbers] == list(range(1, len(numbers) + 1))
        # Every event is linked, and the last status in a trail is that of the row.
        assert not [checked for checked in check(list(self.payloads), anchors=Anchors()) if checked.problem]
        # Out of the way of the next life.
        InboundLead.objects.update(next_attempt_at=None)


def test_whatever_happens_in_whatever_order_a_lead_is_where_its_trail_says(config, monkeypatch):
    rung: list[int] = []
    monkeypatch.setattr(queue, "enqueue", lambda lead_id, **_: rung.append(lead_id))
    monkeypatch.setattr(queue, "depth", lambda: 0)
    LeadHistory.rung = rung
    LeadHistory.config = replace(
        config,
        policy=RetryPolicy(max_attempts=MAX_ATTEMPTS, base=timedelta(seconds=30)),
        circuit=CircuitPolicy(failures=3, leads=2),
    )

    run_state_machine_as_test(
        LeadHistory, settings=settings(max_examples=max(settings.default.max_examples // 8, 1), stateful_step_count=40)
    )
