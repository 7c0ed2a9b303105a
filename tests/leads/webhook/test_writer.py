"""The batch writer, driven by an event loop on the real database."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from leadgateway.db.asynchronous import AsyncDatabase
from leadgateway.errors import ServiceUnavailable
from leads.audit.verification import Anchors, all_chains, check
from leads.models import InboundLead, LeadEvent
from leads.webhook.intake import NewLead, Receipt, payload_hash, prepare, store_all
from leads.webhook.strict_json import parse_object
from leads.webhook.writer import Writer
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)

#: Columns of a new lead that contain when it was received, and that are NULL.
TIMES = ["received_at", "created_at", "updated_at", "next_attempt_at", "enqueued_at"]
EMPTY = [
    *("rejection_reason", "normalized_payload", "customer_payload", "mapping_sha256", "claim_token", "claimed_until"),
    *("delivered_at", "last_answer", "received_again_at", "resolved_at", "erased_at"),
]


def run(scenario: Callable[[Writer], Awaitable[Any]]) -> Any:
    """Run a scenario in an event loop with a writer, and stop the writer."""

    async def main():
        writer = Writer()
        await writer.start()
        try:
            return await scenario(writer)
        finally:
            await writer.stop()

    return asyncio.run(main())


def store(*leads: NewLead) -> list[Any]:
    """Store leads concurrently and return their receipts or exceptions."""

    async def scenario(writer: Writer):
        return await asyncio.gather(*map(writer.store, leads), return_exceptions=True)

    return run(scenario)


def invalid_chains() -> list[str]:
    return [str(chain) for chain in check(all_chains(Anchors()), anchors=Anchors()) if chain.problem]


# --- what is stored --------------------------------------------------------------------------------------------------


def test_every_column_of_the_lead_and_its_event():
    payload = make.payload(email=" Ann@Example.COM ", phone="0151 / 123 456 78", name="Ann  Müller", n=[1, 1.0, None])
    lead = make.new_lead(payload, headers={"User-Agent": "form/1", "X-Name": 'Jürgen "%s"'}, source="portal-a")

    [receipt] = store(lead)

    stored = InboundLead.objects.values().get()
    assert uuid.UUID(str(stored.pop("idempotency_key"))).version == 4
    assert stored == {
        "id": receipt.lead_id,
        **dict.fromkeys(TIMES, lead.received_at),
        "raw_payload": payload,
        "source_headers": lead.headers,
        "source": "portal-a",
        "status": "RECEIVED",
        "payload_hash": payload_hash(payload),
        "correlation_id": uuid.UUID(lead.correlation_id),
        "uncounted_attempts": 0,
        "search_email": "ann@example.com",
        "search_phone": "+4915112345678",
        "search_zipcode": "66123",
        "search_name": "ann müller",
        **dict.fromkeys(EMPTY),
    }
    event = LeadEvent.objects.get()
    assert (event.lead_id, event.kind, event.actor, event.at) == (stored["id"], "received", "webhook", lead.received_at)
    assert (event.from_status, event.to_status, event.detail) == (None, None, {})
    assert event.correlation_id == stored["correlation_id"]
    assert invalid_chains() == []


def test_notes_are_stored_with_the_event():
    lead = make.new_lead()
    store(NewLead(parse_object(rb'{"name": "A\u0000"}'), {}, None, lead.correlation_id, lead.received_at))

    assert LeadEvent.objects.get().detail == {"notes": ["nul_replaced"]}
    assert InboundLead.objects.get().raw_payload == {"name": "A\ufffd"}
    assert invalid_chains() == []


def test_concurrent_leads_share_a_message_and_one_alone_does_not_wait(queued_messages):
    async def scenario(writer):
        first = await writer.store(make.new_lead())
        others = await asyncio.gather(*(writer.store(make.new_lead()) for _ in range(10)))
        return [first.lead_id], sorted(receipt.lead_id for receipt in others)

    first, others = run(scenario)

    assert [sorted(lead_ids) for lead_ids in queued_messages()] == [first, others]


def test_large_payloads_are_not_stored_together(queued_messages):
    store(*(make.new_lead(make.payload(text="x" * 400_000)) for _ in range(9)))

    assert [len(lead_ids) for lead_ids in queued_messages()] == [3, 3, 3]


@pytest.mark.needs_postgres
def test_an_accepted_lead_takes_one_statement(monkeypatch):
    executed = []
    execute = AsyncDatabase.execute

    async def recorded(self, statement, *args, **kwargs):
        executed.append(statement)
        return await execute(self, statement, *args, **kwargs)

    monkeypatch.setattr(AsyncDatabase, "execute", recorded)
    store(make.new_lead())

    assert len(executed) == 1


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_a_thousand_concurrent_posts_of_three_hundred_leads(queued_leads):
    payloads = [make.payload() for _ in range(300)]
    receipts = store(*(make.new_lead(payloads[number * 7 % 300]) for number in range(1000)))

    leads = {lead.pk: lead.payload_hash for lead in InboundLead.objects.all()}
    assert sorted(leads.values()) == sorted(map(payload_hash, payloads))
    assert Counter(receipt.lead_id for receipt in receipts if not receipt.duplicate) == dict.fromkeys(leads, 1)
    assert {receipt.lead_id for receipt in receipts} == set(leads)
    assert Counter(LeadEvent.objects.values_list("kind", flat=True)) == {"received": 300, "duplicate": 700}
    assert sorted(queued_leads()) == sorted(leads)
    assert invalid_chains() == []


def test_writers_of_two_processes_store_each_lead_once(queued_leads):
    payloads = [make.payload() for _ in range(100)]

    async def scenario(first):
        second = Writer()
        await second.start()
        try:
            # Opposite orders would deadlock without the order of the hashes.
            posts = [first.store(make.new_lead(payload)) for payload in payloads]
            posts += [second.store(make.new_lead(payload)) for payload in reversed(payloads)]
            return await asyncio.gather(*posts)
        finally:
            await second.stop()

    receipts = run(scenario)

    assert InboundLead.objects.count() == len({receipt.lead_id for receipt in receipts}) == 100
    assert sum(receipt.duplicate for receipt in receipts) == LeadEvent.objects.filter(kind="duplicate").count() == 100
    assert sorted(queued_leads()) == sorted(InboundLead.objects.values_list("pk", flat=True))
    assert invalid_chains() == []


def test_a_repetition_is_recorded_with_the_lead(queued_leads):
    payload = make.payload()
    first = make.new_lead(payload)
    [receipt] = store(first)
    InboundLead.objects.update(status="REJECTED")
    again, later = make.new_lead(payload), make.new_lead(payload)

    receipts = store(again, later)

    assert receipts == [Receipt(receipt.lead_id, "REJECTED", duplicate=True)] * 2
    lead = InboundLead.objects.get()
    assert lead.received_at == lead.updated_at == first.received_at
    assert lead.received_again_at == later.received_at
    events = lead.events.order_by("id").values_list("kind", "actor", "at", "correlation_id", "detail")
    assert list(events) == [
        (kind, "webhook", each.received_at, uuid.UUID(each.correlation_id), {})
        for kind, each in [("received", first), ("duplicate", again), ("duplicate", later)]
    ]
    assert queued_leads() == [receipt.lead_id]


def test_a_lead_from_before_the_window_gives_up_its_hash():
    payload = make.payload()
    [old] = store(make.new_lead(payload, received_at=timezone.now() - timedelta(hours=24, seconds=1)))
    receipts = store(make.new_lead(payload), make.new_lead(payload), make.new_lead())

    [new] = {receipt.lead_id for receipt in receipts[:2]}
    assert sorted(receipt.duplicate for receipt in receipts) == [False, False, True]
    assert InboundLead.objects.get(pk=old.lead_id).payload_hash is None
    assert InboundLead.objects.get(pk=old.lead_id).received_again_at is None
    assert InboundLead.objects.get(pk=new).payload_hash == payload_hash(payload)
    assert invalid_chains() == []


def test_without_a_window_every_post_is_a_new_lead(settings):
    settings.DEDUP_WINDOW = timedelta()
    payload = make.payload()

    receipts = store(make.new_lead(payload), make.new_lead(payload))

    assert len({receipt.lead_id for receipt in receipts}) == 2
    assert set(InboundLead.objects.values_list("payload_hash", flat=True)) == {None}


def test_the_same_row_stored_twice_is_no_repetition():
    """As when the connection is lost before the INSERT is confirmed."""
    row = prepare(make.new_lead(), dedup_window=DAY)
    first = store_all([row], dedup_window=DAY)

    assert store_all([row], dedup_window=DAY) == first
    assert LeadEvent.objects.count() == 1


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_row_that_the_database_does_not_accept_fails_alone(queued_leads):
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            condition = "WHEN length(NEW.source) > 100 BEGIN SELECT RAISE(ABORT, 'too long'); END"
            cursor.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON inbound_lead {condition}")
    try:
        receipts = store(make.new_lead(), make.new_lead(source="x" * 101), make.new_lead())
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("DROP TRIGGER refuse")

    assert not isinstance(receipts[1], ServiceUnavailable)
    assert isinstance(receipts[1], Exception)
    assert sorted(queued_leads()) == sorted([receipts[0].lead_id, receipts[2].lead_id])
    assert InboundLead.objects.count() == 2


def test_a_cancelled_request_does_not_affect_the_batch(queued_leads):
    async def scenario(writer):
        posts = [asyncio.create_task(writer.store(make.new_lead())) for _ in range(3)]
        await asyncio.sleep(0)
        posts[1].cancel()
        return await asyncio.gather(*posts, return_exceptions=True)

    receipts = run(scenario)

    assert [type(receipt).__name__ for receipt in receipts] == ["Receipt", "CancelledError", "Receipt"]
    assert InboundLead.objects.count() == len(queued_leads()) == 3


def test_stop_stores_what_waits(queued_leads):
    async def main():
        writer = Writer()
        await writer.start()
        posts = [asyncio.create_task(writer.store(make.new_lead())) for _ in range(200)]
        await asyncio.sleep(0)
        await writer.stop()
        with pytest.raises(ServiceUnavailable):
            await writer.store(make.new_lead())
        return [post.done() and post.result() for post in posts]

    assert len({receipt.lead_id for receipt in asyncio.run(main())}) == len(queued_leads()) == 200
