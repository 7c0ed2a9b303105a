"""The sliding window: parallel requests, and leads that do not disturb each other."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError

from delivery import pipeline
from delivery.client import CustomerAPI, CustomerResponse
from delivery.configuration import Configuration
from delivery.control.limits import Limits
from delivery.models import DeliveryAttempt
from delivery.window import Job, Window
from leads.models import InboundLead, LeadEvent
from tests import make
from tests.background import run_at_once
from tests.delivery.conftest import during_request
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def deliver(window: Window, lead_ids: list[int]) -> list[Job]:
    return [job for group in window.deliver(lead_ids, headers={}) for job in group]


def delivered() -> set[int]:
    return set(InboundLead.objects.filter(status="DELIVERED").values_list("pk", flat=True))


class InProgress:
    """Counts the requests in progress."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()

    def change(self, by: int) -> None:
        with self.lock:
            self.now += by
            self.most = max(self.most, self.now)


def holding(config: Configuration, held: int, released: threading.Event) -> Configuration:
    """Return a configuration whose customer does not respond to one lead until an event."""
    key = str(InboundLead.objects.get(pk=held).idempotency_key)

    class Holding(CustomerAPI):
        def deliver(self, *args: Any, **kwargs: Any) -> CustomerResponse:
            if kwargs["idempotency_key"] == key:
                released.wait(30)
            return super().deliver(*args, **kwargs)

    customer = config.customer
    return replace(config, customer=Holding(customer.url, customer.token, customer.timeout))


def test_leads_of_several_messages_are_sent_in_parallel_within_the_size(config, customer) -> None:
    customer.set_mode("delay=50ms")
    in_progress = InProgress()
    counted = during_request(config, before=lambda: in_progress.change(1), after=lambda: in_progress.change(-1))
    window = Window(3, config=counted)
    leads = [make.lead().pk for _ in range(15)]

    run_at_once(*(partial(deliver, window, leads[start : start + 5]) for start in (0, 5, 10)))

    assert delivered() == set(leads)
    assert in_progress.most == 3
    assert len(customer.requests) == 15


def test_a_slow_lead_delays_no_other(config) -> None:
    leads = [make.lead().pk for _ in range(8)]
    released = threading.Event()
    window = Window(2, config=holding(config, leads[0], released))
    message = threading.Thread(target=deliver, args=(window, leads))
    message.start()

    try:
        wait_until(lambda: delivered() == set(leads[1:]), 20, "the other leads")
        assert InboundLead.objects.get(pk=leads[0]).status == "READY"
    finally:
        released.set()
        message.join()
    assert delivered() == set(leads)


def test_the_same_lead_in_several_messages_is_sent_once(config, customer) -> None:
    window, leads = Window(4, config=config), [make.lead().pk for _ in range(6)]

    run_at_once(*[lambda: deliver(window, leads)] * 4)

    assert delivered() == set(leads)
    assert len(customer.requests) == DeliveryAttempt.objects.count() == 6


def test_failed_leads_are_reported_with_their_next_attempts(config, customer) -> None:
    customer.set_mode("status=503")
    leads = [make.lead().pk for _ in range(4)]

    jobs = deliver(Window(4, config=config), leads)

    due = dict(InboundLead.objects.values_list("pk", "next_attempt_at"))
    assert {job.lead_id: job.due for job in jobs} == due
    assert all(due.values())


def test_a_window_that_stops_finishes_claimed_leads_and_returns_the_others(config) -> None:
    leads = [make.lead().pk for _ in range(4)]
    released = threading.Event()
    window = Window(1, config=holding(config, leads[0], released))
    jobs: list[Job] = []
    message = threading.Thread(target=lambda: jobs.extend(deliver(window, leads)))
    message.start()
    wait_until(lambda: DeliveryAttempt.objects.exists(), 20, "the first attempt")

    window.stop()
    released.set()
    message.join()

    assert delivered() == {leads[0]}
    assert {job.lead_id for job in jobs if job.is_returned} == set(leads[1:])
    assert not InboundLead.objects.filter(pk__in=leads[1:], claim_token__isnull=False).exists()


def test_an_unavailable_database_is_reported_and_the_window_goes_on(config, monkeypatch) -> None:
    window, lead = Window(2, config=config), make.lead().pk

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "claim", fail)
        (job,) = deliver(window, [lead])
    assert isinstance(job.error, OperationalError)

    assert [job.error for job in deliver(window, [lead])] == [None]
    assert delivered() == {lead}


def test_a_concurrency_limit_holds_for_the_groups_of_several_workers(config, customer, queued_leads) -> None:
    customer.set_mode("delay=30ms")
    in_progress = InProgress()
    limited = during_request(
        replace(config, limits=Limits(concurrency=2)),
        before=lambda: in_progress.change(1),
        after=lambda: in_progress.change(-1),
    )
    windows = [Window(5, config=limited) for _ in range(2)]
    leads = [make.lead(status="READY").pk for _ in range(10)]

    def work(window: Window) -> None:
        while waiting := list(InboundLead.objects.filter(status="READY").values_list("pk", flat=True)):
            deliver(window, waiting)

    run_at_once(*(partial(work, window) for window in windows))

    assert delivered() == set(leads)
    assert in_progress.most == 2
    assert DeliveryAttempt.objects.count() == 10


# --- groups in the pipeline ------------------------------------------------------------------------------------------


def claim_and_prepare(leads: list[int], config: Configuration, then: Callable[[], object]) -> list[pipeline.Delivery]:
    claims = pipeline.claim(leads, request_timeout=config.customer.timeout)
    then()
    return pipeline.prepare(claims, config=config)


def test_a_lead_whose_row_fails_does_not_spoil_its_group(config, customer, caplog) -> None:
    leads = [make.lead().pk for _ in range(4)]

    def take_the_attempt_number() -> None:
        make.attempt(InboundLead.objects.get(pk=leads[1]), attempt_no=1)

    deliveries = claim_and_prepare(leads, config, take_the_attempt_number)
    pipeline.settle([pipeline.send(delivery, config=config) for delivery in deliveries], config=config)

    assert delivered() == {leads[0], *leads[2:]}
    failed = InboundLead.objects.get(pk=leads[1])
    assert (failed.status, failed.claim_token is None) == ("RECEIVED", False)
    assert not LeadEvent.objects.filter(lead=failed).exists()
    assert "lead_not_processed" in caplog.text


def test_results_of_a_group_are_stored_without_the_one_whose_claim_is_lost(config, customer, caplog) -> None:
    leads = [make.lead().pk for _ in range(3)]
    deliveries = claim_and_prepare(leads, config, lambda: None)
    results = [pipeline.send(delivery, config=config) for delivery in deliveries]
    InboundLead.objects.filter(pk=leads[2]).update(claim_token=None)

    pipeline.settle(results, config=config)

    assert delivered() == set(leads[:2])
    assert not DeliveryAttempt.objects.get(lead=leads[2]).has_outcome
    assert "claim_lost" in caplog.text


def test_a_group_with_every_outcome_is_prepared_together(config) -> None:
    good, retried = make.lead(), make.lead(status="FAILED")
    rejected = make.lead(raw_payload=make.payload(zipcode="12345"))
    incomplete = make.lead(raw_payload=make.payload(phone=""))
    exhausted = make.lead(status="FAILED")
    for number in range(1, 6):
        make.attempt(exhausted, attempt_no=number)
    leads = [good, retried, rejected, incomplete, exhausted]
    claims = pipeline.claim([lead.pk for lead in leads], request_timeout=config.customer.timeout)

    deliveries = pipeline.prepare(claims, config=config)

    assert [delivery.claim.lead.pk for delivery in deliveries] == [good.pk, retried.pk]
    assert [InboundLead.objects.get(pk=lead.pk).status for lead in leads] == [
        "READY",
        "FAILED",
        "REJECTED",
        "FAILED",
        "PERMANENTLY_FAILED",
    ]


def test_a_group_shares_its_statements(config, customer, django_assert_num_queries) -> None:
    leads = [make.lead().pk for _ in range(10)]

    with django_assert_num_queries(11):
        deliveries = claim_and_prepare(leads, config, lambda: None)
        pipeline.settle([pipeline.send(delivery, config=config) for delivery in deliveries], config=config)

    assert delivered() == set(leads)
