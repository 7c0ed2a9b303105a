"""`manage.py erase_person`: nothing of the person is left, and what they were counted for is."""

import json
import subprocess
import uuid
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from delivery.bulk_actions import lead_actions, processing
from delivery.models import BulkAction, BulkActionItem, BulkActionKind, DeliveryAttempt
from leads.models import EventKind, InboundLead, LeadEvent
from leads.webhook.intake import receive
from leads.webhook.strict_json import parse_object
from tests import make
from tests.servers import postgres_binary

pytestmark = pytest.mark.django_db

EMAIL = "anna.schmitz@example.com"
PHONE = "+4915112345678"

#: What must be nowhere any more, in any case.
TRACES = ("schmitz", "15112345678", "151 12345678", "hauptstra", "203.0.113.77", "rrelevant-but-hers")


def payload(**changes):
    hers = {
        "email": "Anna.Schmitz@Example.com",
        "phone": "0151 12345678",
        "name": "Anna Schmitz",
        "address": {"street": "Hauptstraße 10"},
        "note": "irrelevant-but-hers",
    }
    return make.payload(hers | changes)


def erase(*arguments):
    """Return the exit code and what `manage.py erase_person` says."""
    out = StringIO()
    try:
        call_command("erase_person", *arguments, "--no-input", stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue()
    return 0, out.getvalue()


def erase_anna(*arguments):
    return erase("--email", EMAIL, "--phone", "0151/12345678", *arguments)


def assert_the_trail_holds():
    call_command("verify_audit_log", stdout=StringIO())  # ends the process when it does not


def everything_stored():
    """Return all that is in the database, as text in lower case."""
    tables = [table for table in connection.introspection.table_names() if table != "django_migrations"]
    with connection.cursor() as cursor:
        rows = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {table}")
            rows += cursor.fetchall()
    text = json.dumps(rows, default=str, ensure_ascii=False)
    return (text + text.encode().decode("unicode_escape", "ignore")).lower()


def traces():
    stored = everything_stored()
    return [trace for trace in TRACES if trace in stored]


def deliver(lead):
    """Give a lead a history that speaks of the person wherever it can."""
    make.event(lead, detail={"notes": []})
    make.attempt(lead, response_body='{"phone": "+4915112345678"}', error_message="HTTP 503", response_status=503)
    make.attempt(lead, response_body="Danke, Frau Schmitz", response_status=200)
    make.event(lead, "attempt_finished", actor="worker", detail={"attempt_no": 2, "response_status": 200})
    return lead


@pytest.fixture
def anna():
    """Return a lead of Anna's that was delivered, redelivered and settled, with her all over it."""
    lead = make.lead(
        status="PERMANENTLY_FAILED",
        raw_payload=payload(),
        customer_payload=make.customer_payload(phone=PHONE),
        source_headers={"X-Forwarded-For": "203.0.113.77", "Referer": "https://x.de/?m=anna.schmitz%40example.com"},
        payload_hash="f" * 64,
        search_email=EMAIL,
        search_phone=PHONE,
        search_zipcode="66123",
        search_name="anna schmitz",
    )
    make.event(lead, "status", actor="worker")
    deliver(lead)
    lead_actions.redeliver(lead.pk, actor="bob", reason="Frau Schmitz rief an", now=timezone.now())
    InboundLead.objects.filter(pk=lead.pk).update(next_attempt_at=None, status="READY")
    return InboundLead.objects.get(pk=lead.pk)


def test_a_tombstone_is_left(anna):
    before = InboundLead.objects.filter(pk=anna.pk).values().get()
    attempts = list(
        DeliveryAttempt.objects.order_by("pk").values("attempt_no", "requested_at", "response_status", "success")
    )
    kinds = list(LeadEvent.objects.order_by("pk").values_list("kind", "at", "actor"))
    assert traces()

    code, said = erase_anna()

    assert (code, traces()) == (0, [])
    after = InboundLead.objects.filter(pk=anna.pk).values().get()
    kept = ("id", "received_at", "status", "correlation_id", "idempotency_key", "updated_at", "mapping_sha256")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["erased_at"] is not None
    assert [after[name] for name in ("raw_payload", "payload_hash", "source_headers")] == [{}, None, None]
    assert (
        list(DeliveryAttempt.objects.order_by("pk").values("attempt_no", "requested_at", "response_status", "success"))
        == attempts
    )
    assert list(LeadEvent.objects.order_by("pk").values_list("kind", "at", "actor"))[: len(kinds)] == kinds
    assert f"Leads emptied:                  1 ({anna.pk})" in said
    assert_the_trail_holds()


def test_what_is_said_and_recorded_names_nobody(anna, caplog):
    said = erase_anna()[1].lower()

    assert not [trace for trace in TRACES if trace in said or trace in caplog.text.lower()]
    event = LeadEvent.objects.get(lead=None, kind=EventKind.PERSON_ERASED)
    assert event.actor.startswith("cli:")
    assert event.detail == {
        "leads": str(anna.pk),
        "leads_of_others": "",
        "left_for_later": "",
        "attempts": 2,
        "events": 1,
        "orders": 0,
        "details": {},
    }
    assert LeadEvent.objects.filter(lead=anna, kind=EventKind.ERASED).exists()


def test_others_are_left_alone(anna):
    other = deliver(make.lead(status="DELIVERED", raw_payload=make.payload(email="joanna.schmitz@example.com")))
    before = [list(table.objects.filter(lead=other).values()) for table in (DeliveryAttempt, LeadEvent)]

    erase("--email", EMAIL)

    assert InboundLead.objects.get(pk=other.pk).raw_payload["email"] == "joanna.schmitz@example.com"
    assert [list(table.objects.filter(lead=other).values()) for table in (DeliveryAttempt, LeadEvent)] == before


def test_they_are_taken_out_of_the_lead_of_somebody_else():
    body = make.payload(
        {
            "email": "bob@example.com",
            "phone": "+49681123456",
            "referred_by": "ANNA.SCHMITZ@example.com",
            "partner": {"name": "Anna Schmitz", "mobile": 4915112345678},
        }
    )
    lead = make.lead(
        raw_payload=body,
        status="DELIVERED",
        payload_hash="e" * 64,
        search_email="bob@example.com",
        search_name="anna.schmitz@example.com",
        source_headers={"Referer": "/?ref=anna.schmitz%40example.com", "User-Agent": "x"},
    )
    make.event(lead, "status", actor="worker", detail={"reason": "asked by 0151 12345678"})
    LeadEvent.objects.create(lead=lead, kind="status", to_status="DELIVERED", actor="worker")
    make.attempt(lead, response_body="no: anna.schmitz@example.com", error_message="HTTP 503")
    make.attempt(lead, response_body="yes", response_status=200)

    code, said = erase_anna()

    assert (code, traces()) == (0, [])
    stored = InboundLead.objects.get()
    assert stored.raw_payload == body | {"referred_by": "[erased]", "partner": "[erased]"}
    assert stored.source_headers == {"Referer": "[erased]", "User-Agent": "x"}
    assert (stored.payload_hash, stored.search_email, stored.search_name) == (None, "bob@example.com", None)
    assert stored.erased_at is None
    assert [attempt.response_body for attempt in stored.attempts.order_by("pk")] == ["[erased]", "yes"]
    assert f"Leads they were taken out of:   1 ({lead.pk})" in said
    assert_the_trail_holds()


def test_a_lead_that_speaks_of_them_in_its_trail_or_answers_alone_is_found():
    by_event, by_answer = make.lead(status="RECEIVED"), make.lead(status="RECEIVED")
    make.event(by_event, "resolved", actor="bob", detail={"reason": f"same as {EMAIL}", "bulk_action": 3})
    make.attempt(by_answer, error_message="0151-12345678")

    erase_anna()

    assert traces() == []
    assert by_event.events.get(kind="resolved").detail == {"reason": "[erased]", "bulk_action": 3}
    assert_the_trail_holds()


def test_an_erased_detail_cannot_be_changed_unnoticed_or_tried_out(anna):
    erase_anna()
    event = LeadEvent.objects.get(lead=anna, kind="redelivered")
    assert (event.detail_salt, event.detail) == (None, {"reason": "[erased]"})

    from leads.audit.append_only import allow_audit_changes

    with allow_audit_changes():
        LeadEvent.objects.filter(pk=event.pk).update(detail={"reason": "nobody"})

    with pytest.raises(SystemExit):
        assert_the_trail_holds()


def test_two_people_can_be_erased_from_one_event():
    lead = make.lead(status="RECEIVED")
    make.event(lead, "resolved", detail={"reason": f"{EMAIL}", "note": "bob@example.com"})

    erase("--email", EMAIL)
    assert_the_trail_holds()
    erase("--email", "bob@example.com")

    assert lead.events.get(kind="resolved").detail == {"reason": "[erased]", "note": "[erased]"}
    assert_the_trail_holds()


# --- orders ----------------------------------------------------------------------------------------------------------


def place(*leads, reason):
    order = BulkAction.objects.create(
        kind="redeliver", actor="bob", reason=reason, selection="x", created_at=timezone.now(), total=len(leads)
    )
    BulkActionItem.objects.bulk_create(BulkActionItem(bulk_action=order, lead=lead, outcome="done") for lead in leads)
    LeadEvent.objects.create(
        kind="bulk_action_created", actor="bob", detail={"bulk_action": order.pk, "reason": reason, "leads": len(leads)}
    )
    return order


def test_reasons_of_orders_are_erased(anna):
    named = place(anna, make.lead(), reason=f"{EMAIL} called")
    hers = place(anna, reason="Frau Schmitz called")
    others = place(anna, make.lead(), reason="customer was down")

    erase_anna()

    assert traces() == []
    reasons = dict(BulkAction.objects.values_list("pk", "reason"))
    assert reasons == {named.pk: "[erased]", hers.pk: "[erased]", others.pk: "customer was down"}
    placed = LeadEvent.objects.filter(kind="bulk_action_created").order_by("pk")
    assert [event.detail["reason"] for event in placed] == ["[erased]", "[erased]", "customer was down"]
    assert_the_trail_holds()


# --- leads under way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ends"),
    [("RECEIVED", "REJECTED"), ("READY", "PERMANENTLY_FAILED"), ("FAILED", "PERMANENTLY_FAILED")],
)
def test_a_lead_that_is_under_way_ends(status, ends):
    lease = {"claim_token": uuid.uuid4(), "claimed_until": timezone.now() - timedelta(seconds=1)}
    lead = make.lead(status=status, raw_payload=payload(), **lease)
    if status != "RECEIVED":
        LeadEvent.objects.create(lead=lead, kind="status", to_status=status, actor="worker")

    assert erase_anna()[0] == 0

    stored = InboundLead.objects.get()
    assert (stored.status, stored.rejection_reason, stored.next_attempt_at) == (ends, "PERSON_ERASED", None)
    assert stored.claim_token is None
    assert stored.resolved_at is not None
    assert not InboundLead.objects.due(timezone.now() + timedelta(days=9)).exists()
    assert_the_trail_holds()


def test_a_lead_that_a_worker_has_in_its_hands_is_left_for_a_second_run(anna):
    busy = make.lead(status="READY", raw_payload=payload(), claimed_until=timezone.now() + timedelta(seconds=30))

    code, said = erase_anna()

    assert code == 1
    assert f"LEFT, a worker has them:        1 ({busy.pk})" in said
    assert InboundLead.objects.get(pk=busy.pk).raw_payload == payload(email="Anna.Schmitz@Example.com")
    assert InboundLead.objects.get(pk=anna.pk).raw_payload == {}

    InboundLead.objects.filter(pk=busy.pk).update(claimed_until=None)
    assert erase_anna()[0] == 0
    assert traces() == []


@pytest.mark.parametrize("order", [lead_actions.redeliver, lead_actions.reprocess])
def test_a_tombstone_is_not_sent_again(order):
    lead = make.lead(status="PERMANENTLY_FAILED", raw_payload=payload())
    erase_anna()

    with pytest.raises(lead_actions.ActionRefused, match=f"lead {lead.pk} was erased"):
        order(lead.pk, actor="bob", reason="again", now=timezone.now())

    assert not lead.events.filter(actor="bob").exists()


@pytest.mark.parametrize("kind", list(BulkActionKind))
def test_an_order_for_many_passes_tombstones_over(kind):
    make.lead(status="PERMANENTLY_FAILED", raw_payload=payload())
    erase_anna()

    assert not processing.eligible(kind, InboundLead.objects.all(), include_delivered=True).exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_lost_its_lead_to_an_erasure_writes_nothing(config, customer):
    """The answer of the customer comes after the lease has run out and the person was erased."""
    from delivery import pipeline
    from delivery.claims import claim_lead

    lead = make.lead(raw_payload=payload())
    claim = claim_lead(lead.pk, request_timeout=timedelta(minutes=-1))
    attempt = pipeline.prepare(claim, config=config)
    answer = pipeline.send(claim.lead, attempt, config=config)
    assert erase_anna()[0] == 0

    with pytest.raises(pipeline.ClaimLost):
        pipeline.settle(claim, attempt, answer, config=config)

    assert traces() == []
    assert DeliveryAttempt.objects.get().response_body is None


def test_the_same_payload_is_a_new_lead_afterwards():
    def post():
        return receive(
            parse_object(json.dumps(payload()).encode()),
            headers={},
            correlation_id="550e8400-e29b-41d4-a716-446655440000",
            now=timezone.now(),
            dedup_window=timedelta(days=1),
        )

    first = post()
    assert post().duplicate
    erase_anna()

    again = post()
    assert not again.duplicate
    assert again.lead_id != first.lead_id


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(anna):
    before = everything_stored()

    said = erase_anna("--dry-run")[1]

    assert f"Leads of the person:            1 ({anna.pk})" in said
    assert everything_stored() == before


def test_without_a_terminal_and_without_no_input_nothing_is_done(anna):
    before = everything_stored()

    with pytest.raises(CommandError, match="nothing was done"):
        call_command("erase_person", "--email", EMAIL, stdout=StringIO())

    assert everything_stored() == before


def test_a_person_that_is_nowhere_is_recorded_as_looked_for(anna):
    assert erase("--email", "nobody@example.org")[0] == 0

    assert LeadEvent.objects.get(kind=EventKind.PERSON_ERASED).detail["leads"] == ""
    assert InboundLead.objects.get().raw_payload != {}


@pytest.mark.parametrize("arguments", [[], ["--email", "anna"], ["--phone", "123"]])
def test_nobody_in_particular_is_an_error_that_quotes_nothing(arguments):
    with pytest.raises(CommandError, match="Who") as refused:
        erase(*arguments)

    assert not [given for given in arguments if given[:2] != "--" and given in str(refused.value)]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.needs_postgres
def test_nothing_of_the_person_is_in_a_dump(anna):
    place(anna, reason="Frau Schmitz called")

    def dump():
        params = connection.get_connection_params()
        where = ["-h", params["host"], "-p", str(params["port"]), "-U", params["user"], "-d", params["dbname"]]
        done = subprocess.run(
            [postgres_binary("pg_dump"), *where, "--inserts"], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.lower()

    found_before = [trace for trace in TRACES if trace in dump()]
    assert found_before == list(TRACES)

    erase_anna()

    assert [trace for trace in TRACES if trace in dump()] == []


@pytest.mark.django_db(transaction=True)
def test_nothing_of_the_person_is_in_the_files_after_a_vacuum(anna):
    assert any(trace in files_of_the_database() for trace in (b"schmitz", b"Schmitz"))

    erase_anna("--vacuum")

    stored = files_of_the_database()
    assert [trace for trace in TRACES if trace.encode() in stored.lower()] == []
    assert InboundLead.objects.get().raw_payload == {}


def files_of_the_database():
    """Return the bytes of the files that hold the tables, with what is not visible any more."""
    if connection.vendor == "sqlite":
        name = Path(connection.settings_dict["NAME"])
        return b"".join(file.read_bytes() for file in name.parent.glob(f"{name.name}*"))
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute("SHOW data_directory")
        directory = Path(cursor.fetchone()[0])
        cursor.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 't', 'i') AND nspname IN ('public', 'pg_toast')"
        )
        files = [directory / path for (path,) in cursor.fetchall() if path]
    return b"".join(file.read_bytes() for file in files if file.exists())
