"""The hash chains of the audit log: linked by the database, verified by `manage.py verify_audit_log`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from django.core.management import CommandError
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import assume, given
from hypothesis import strategies as st

from leads.audit.append_only import allow_audit_changes
from leads.audit.hash_chain import Event, hash_of, read, seal
from leads.audit.recording import record
from leads.models import AuditChainHead, EventKind, InboundLead, LeadEvent, LeadStatus
from leads.status import change_status
from tests import make
from tests.background import run_at_once
from tests.commands import run

pytestmark = pytest.mark.django_db


def sql(statement):
    """Run a statement as an attacker who has access to the database and allows the change."""
    with allow_audit_changes(), connection.cursor() as cursor:
        cursor.execute(statement)


def verify(*arguments):
    """Return the exit code and the output of the command."""
    return run("verify_audit_log", *arguments)


def forge_last_event(lead, **changes):
    """Change the last event of a lead, and set the matching hash in the event and the head."""
    *_, before, last = read(LeadEvent.objects.filter(lead=lead))
    forged = replace(last, **changes)
    new_hash = hash_of(forged, previous=before.hash, sealed_detail=seal(last.detail_salt, last.detail))
    with allow_audit_changes():
        LeadEvent.objects.filter(pk=last.id).update(hash=new_hash, **changes)
        AuditChainHead.objects.filter(chain=lead.pk).update(hash=new_hash)


@pytest.fixture
def lead():
    """Return a lead with four events."""
    lead = make.lead()
    make.event(lead)
    record(lead, EventKind.DUPLICATE, actor="webhook", now=make.NOON, detail={"x": 1})
    change_status(lead, LeadStatus.READY, actor="worker", now=timezone.now())
    record(lead, EventKind.MAPPED, actor="wörker", now=timezone.now(), detail={"a": ["é", None], "s": 30.0, "t": 0.125})
    return lead


SALT = UUID(int=0)


def ids(lead=None):
    return list(LeadEvent.objects.filter(lead=lead).order_by("pk").values_list("pk", flat=True))


# --- the hash --------------------------------------------------------------------------------------------------------

NAMES = st.text("ab0", max_size=4)
#: The fields that a hash covers. Only the detail may contain a line break, see `is_unambiguous`.
FIELDS = {
    "lead_id": st.none() | st.integers(1, 20),
    "at": st.datetimes(timezones=st.just(UTC)),
    "kind": NAMES,
    "from_status": st.none() | NAMES,
    "to_status": st.none() | NAMES,
    "actor": NAMES,
    "correlation_id": st.none() | st.uuids(),
    "detail": st.text("ab\n", max_size=4),
    "detail_salt": st.uuids(),
}
EVENTS = st.builds(Event, **FIELDS, id=st.just(1), detail_sha256=st.none(), hash=st.none())
CHANGES = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name]))


@given(EVENTS, CHANGES, CHANGES)
def test_no_two_events_have_the_same_hash(event, change, another):
    changed = replace(event, **dict([change, another]))
    # A missing status and an empty one have the same hash.
    assume(any((getattr(event, name) or "") != (getattr(changed, name) or "") for name in FIELDS))

    assert hash_in_chain(event) != hash_in_chain(changed)


def hash_in_chain(event):
    return hash_of(event, previous="", sealed_detail=seal(event.detail_salt, event.detail))


def assert_linked(events):
    previous = ""
    for event in events:
        sealed = seal(event.detail_salt, event.detail)
        assert event.hash == hash_of(event, previous=previous, sealed_detail=sealed)
        previous = event.hash


# --- linking ---------------------------------------------------------------------------------------------------------


def test_each_hash_covers_the_hash_of_the_previous_event(lead):
    events = list(read(LeadEvent.objects.all()))

    assert_linked(events)
    assert AuditChainHead.objects.values().get() == {"chain": lead.pk, "hash": events[-1].hash, "events": 4}


def test_a_hash_covers_the_documented_text():
    lead = make.lead()
    at = datetime(2026, 1, 21, 13, 0, 0, 120, tzinfo=UTC)
    event = make.event(lead, "status", now=at, actor="anna", correlation_id=lead.correlation_id, detail={"reason": "ä"})
    [stored] = read(LeadEvent.objects.all())

    detail = seal(event.detail_salt, '{"reason": "ä"}' if connection.vendor == "postgresql" else stored.detail)
    text = f"\n{lead.pk}\n2026-01-21 13:00:00.000120\nstatus\n\n\nanna\n{lead.correlation_id.hex}\n{detail}"

    assert stored.hash == hash_of(stored, previous="", sealed_detail=detail) == sha256(text.encode()).hexdigest()


def test_events_from_plain_sql_are_linked(lead):
    for now in ("2026-01-21 12:00:00", "2026-01-21 12:00:00.5"):
        with connection.cursor() as cursor:
            values = f"{lead.pk}, 'resolved', 'psql', '{now}'"
            cursor.execute(f"INSERT INTO lead_event (lead_id, kind, actor, at) VALUES ({values})")

    assert verify() == (0, "1 chain verified, 0 invalid.\n")
    assert AuditChainHead.objects.get().events == 6


def test_bulk_inserts_are_linked_to_the_chain_of_each_lead_or_of_no_lead(lead):
    other = make.lead()
    of = [lead, other, lead, None, other, None]
    LeadEvent.objects.bulk_create(LeadEvent(lead=one, kind="exported", actor="x", at=make.NOON) for one in of)

    assert verify() == (0, "3 chains verified, 0 invalid.\n")
    assert dict(AuditChainHead.objects.values_list("chain", "events")) == {0: 2, lead.pk: 6, other.pk: 2}
    assert_linked(list(read(LeadEvent.objects.filter(lead=None))))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_new", [True, False], ids=["a new chain", "a chain"])
def test_parallel_writers_do_not_fork_a_chain(is_new):
    lead = make.lead() if is_new else None
    if not is_new:
        LeadEvent.objects.create(kind="exported", actor="x")

    def write():
        for _ in range(5):
            LeadEvent.objects.create(lead=lead, kind="duplicate", actor="writer")

    run_at_once(*[write] * 8)

    assert AuditChainHead.objects.get().events == 40 + (not is_new)
    assert verify() == (0, "1 chain verified, 0 invalid.\n")


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
def test_recording_does_not_lock_the_lead(lead):
    """A worker can claim a lead while duplicates of it are recorded."""
    with transaction.atomic():
        make.event(lead, "duplicate")
        run_at_once(lambda: InboundLead.objects.filter(pk=lead.pk).update(enqueued_at=make.NOON))

    assert InboundLead.objects.get().enqueued_at == make.NOON


# --- detected changes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'anna'",
        "to_status = 'DELIVERED'",
        "detail = '{}'",
        "detail_salt = NULL",
        "detail = '{}', detail_salt = NULL, detail_sha256 = '0'",
        "hash = '0'",
    ],
)
@pytest.mark.parametrize("place", [1, 3])
def test_a_changed_event_is_found(lead, change, place):
    changed = ids(lead)[place]

    sql(f"UPDATE lead_event SET {change} WHERE id = {changed}")

    assert verify() == (1, f"lead {lead.pk}: event {changed} was changed\n1 chain verified, 1 invalid.\n")


def test_an_event_moved_to_another_lead_is_found(lead):
    other = make.lead()
    first = ids(lead)[0]
    sql(f"UPDATE lead_event SET lead_id = {other.pk} WHERE id = {first}")

    code, output = verify()

    assert code == 1
    assert f"lead {lead.pk}: the event before event {ids(lead)[0]} was removed" in output
    assert f"lead {other.pk}: event {first} was changed" in output


@pytest.mark.parametrize(
    ("attack", "problem"),
    [
        ("DELETE FROM lead_event WHERE id = {0}", "the event before event {1} was removed"),
        ("DELETE FROM lead_event WHERE id = {2}", "the event before event {3} was removed"),
        ("DELETE FROM lead_event WHERE id >= {2}", "the last 2 events after event {1} were removed"),
        ("DELETE FROM lead_event", "all 4 events were removed\n"),
        ("DELETE FROM inbound_lead", "all 4 events and the lead were removed"),
        ("DELETE FROM audit_chain_head", "the head of the chain was removed"),
        ("UPDATE audit_chain_head SET hash = 'x'", "the head of the chain was changed"),
        ("UPDATE inbound_lead SET status = 'DELIVERED'", "the lead's status is DELIVERED, but the audit log has READY"),
    ],
)
def test_removed_events_heads_and_leads_and_changed_heads_and_statuses_are_found(lead, attack, problem):
    events = ids(lead)
    sql(attack.format(*events))

    assert verify()[1].startswith(f"lead {lead.pk}: {problem.format(*events)}")


def test_a_removed_chain_is_found(lead):
    sql("DELETE FROM lead_event")
    sql("DELETE FROM audit_chain_head")

    assert verify()[1].startswith(f"lead {lead.pk}: the lead has no events")


def swap(one, other):
    highest = LeadEvent.objects.latest("pk").pk + 1
    for was, to in ((one, highest), (other, one), (highest, other)):
        sql(f"UPDATE lead_event SET id = {to} WHERE id = {was}")


@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 3), (0, 3)])
def test_moved_events_are_found(lead, one, other):
    events = ids(lead)
    swap(events[one], events[other])

    assert verify()[1].startswith(f"lead {lead.pk}: event {events[one]} was moved")


def insert_after(event_id, lead, **given):
    """Forge an event between two others."""
    later = list(LeadEvent.objects.filter(pk__gt=event_id).order_by("-pk").values_list("pk", flat=True))
    for pk in later:
        sql(f"UPDATE lead_event SET id = {pk + 1} WHERE id = {pk}")
    LeadEvent.objects.create(pk=event_id + 1, lead=lead, kind="resolved", actor="forger", at=make.NOON, **given)
    return event_id + 1


@pytest.mark.parametrize("place", [0, 3])
def test_a_forged_event_is_found(lead, place):
    forged = insert_after(ids(lead)[place], lead, hash="0" * 64, detail_salt=SALT)

    assert verify()[1].startswith(f"lead {lead.pk}: event {forged} was inserted")


def test_a_forged_event_with_a_matching_hash_is_found(lead):
    before = LeadEvent.objects.get(pk=ids(lead)[1])
    forged = insert_after(before.pk, lead, hash="0" * 64, detail_salt=SALT)
    event = next(event for event in read(LeadEvent.objects.all()) if event.id == forged)
    fitting = hash_of(event, previous=before.hash, sealed_detail=seal(SALT, event.detail))
    with allow_audit_changes():
        LeadEvent.objects.filter(pk=forged).update(hash=fitting)

    assert verify()[1].startswith(f"lead {lead.pk}: event {forged} was inserted")


def test_an_ambiguous_line_break_is_found(lead):
    make.event(lead, actor="worker\nx")

    assert verify()[1].startswith(f"lead {lead.pk}: event {ids(lead)[-1]} was changed")


def test_only_invalid_chains_are_listed(lead):
    make.event(make.lead())
    other = make.event(make.lead())
    sql(f"UPDATE lead_event SET actor = 'x' WHERE id IN ({other.pk}, {ids(lead)[0]})")

    code, output = verify()

    assert (code, output.splitlines()) == (
        1,
        [
            f"lead {lead.pk}: event {ids(lead)[0]} was changed",
            f"lead {other.lead_id}: event {other.pk} was changed",
            "3 chains verified, 2 invalid.",
        ],
    )


# --- selection of chains ---------------------------------------------------------------------------------------------


def test_since_selects_chains_with_recent_events(lead):
    make.event(make.lead(), now=timezone.now() - timedelta(hours=2))
    assert verify("--since", "1h") == (0, "1 chain verified, 0 invalid.\n")
    assert verify("--since", "3h") == (0, "2 chains verified, 0 invalid.\n")


@pytest.mark.parametrize("lead_id", [9, 2**40])
def test_an_unknown_lead_is_an_error(lead_id):
    with pytest.raises(CommandError, match=f"There is no lead {lead_id}."):
        verify(lead_id)


# --- anchors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def anchor(lead, tmp_path):
    """Return a file with the anchors of a lead and of the events of no lead."""
    LeadEvent.objects.create(kind="exported", actor="anna")
    code, printed = verify("--anchor")
    assert code == 0
    file = tmp_path / "anchor"
    file.write_text(printed)
    return file


def test_an_anchor_is_a_line_for_each_chain(anchor, lead):
    heads = AuditChainHead.objects.order_by("chain").values_list("chain", "events", "hash")

    assert anchor.read_text() == "".join(f"{chain} {events} {digest}\n" for chain, events, digest in heads)


def test_a_chain_with_further_events_matches_its_anchor(anchor, lead):
    make.event(lead, "duplicate")
    make.event(make.lead())

    assert verify("--against", anchor) == (0, "3 chains verified, 0 invalid.\n")


def test_a_replaced_chain_differs_from_its_anchor(anchor, lead):
    forge_last_event(lead, actor="forger")
    assert verify()[0] == 0

    assert verify("--against", anchor)[1].startswith(
        f"lead {lead.pk}: event {ids(lead)[-1]} or an earlier one differs from the anchor"
    )


def test_an_anchor_detects_a_removed_last_event_and_a_removed_lead(anchor, lead):
    sql(f"DELETE FROM lead_event WHERE id = {ids(lead)[-1]}")
    end = LeadEvent.objects.get(pk=ids(lead)[-1])
    AuditChainHead.objects.filter(chain=lead.pk).update(hash=end.hash, events=3)
    assert verify()[0] == 0
    assert f"lead {lead.pk}: the anchor has 4 events, but the chain has 3" in verify("--against", anchor)[1]

    sql("DELETE FROM inbound_lead")
    sql(f"DELETE FROM audit_chain_head WHERE chain = {lead.pk}")
    assert verify()[0] == 0

    assert f"lead {lead.pk}: the anchor has 4 events, but the chain has 0" in verify("--against", anchor)[1]


@pytest.mark.parametrize("content", ["", "1 2 zz\n"])
def test_a_file_without_anchors_is_refused(tmp_path, content):
    file = tmp_path / "anchor"
    file.write_text(content)

    with pytest.raises(CommandError, match="not an output of --anchor"):
        verify("--against", file)
