"""`manage.py erase_person` removes all data of a person and keeps the statistics."""

import json
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError
from django.db import connection
from django.utils import timezone

from delivery.bulk_actions import lead_actions
from delivery.client import CustomerAPI
from delivery.models import BulkAction, BulkActionItem, DeliveryAttempt
from leads.audit.append_only import allow_audit_changes
from leads.models import EventKind, InboundLead, LeadEvent
from tests import make
from tests.commands import output_of, run
from tests.delivery.conftest import advance

pytestmark = pytest.mark.django_db

EMAIL = "anna.schmitz@example.com"
PHONE = "+4915112345678"

#: What must not be stored any more, in upper or lower case.
TRACES = ("schmitz", "15112345678", "151 12345678", "hauptstra", "203.0.113.77", "only-in-her-note")


def payload(**changes):
    contact = {
        "email": "Anna.Schmitz@Example.com",
        "phone": "0151 12345678",
        "name": "Anna Schmitz",
        "address": {"street": "Hauptstraße 10"},
        "note": "only-in-her-note",
    }
    return make.payload(contact | changes)


def erase(*arguments):
    """Run the command; return its exit code and its output."""
    return run("erase_person", *arguments, "--no-input")


def erase_anna(*arguments):
    return erase("--email", EMAIL, "--phone", "0151/12345678", *arguments)


def assert_audit_log_is_intact():
    output_of("verify_audit_log")


def everything_stored():
    """Return the contents of the database as text in lower case."""
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


def add_attempts(lead):
    """Add attempts and events that mention the person wherever possible."""
    make.event(lead, detail={"notes": []})
    make.attempt(lead, response_body='{"phone": "+4915112345678"}', error_message="HTTP 503", response_status=503)
    make.attempt(lead, response_body="Danke, Frau Schmitz", response_status=200)
    make.event(lead, "attempt_finished", actor="worker", detail={"attempt_no": 2, "response_status": 200})
    return lead


@pytest.fixture
def anna():
    """Return a redelivered lead of Anna that mentions her in all columns."""
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
    add_attempts(lead)
    lead_actions.redeliver(lead.pk, actor="bob", reason="Frau Schmitz rief an", now=timezone.now())
    InboundLead.objects.filter(pk=lead.pk).update(next_attempt_at=None, status="READY")
    return InboundLead.objects.get(pk=lead.pk)


def test_an_own_lead_keeps_only_status_times_and_codes(anna):
    before = InboundLead.objects.filter(pk=anna.pk).values().get()
    columns = ("attempt_no", "requested_at", "response_status", "success")
    attempts = list(DeliveryAttempt.objects.order_by("pk").values(*columns))
    kinds = list(LeadEvent.objects.order_by("pk").values_list("kind", "at", "actor"))
    assert traces()

    code, output = erase_anna()

    assert (code, traces()) == (0, [])
    after = InboundLead.objects.filter(pk=anna.pk).values().get()
    kept = ("id", "received_at", "status", "correlation_id", "idempotency_key", "updated_at", "mapping_sha256")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["erased_at"] is not None
    assert after["resolved_at"] is not None
    assert after["customer_payload"] is None
    assert [after[name] for name in ("raw_payload", "payload_hash", "source_headers")] == [{}, None, None]
    assert list(DeliveryAttempt.objects.order_by("pk").values(*columns)) == attempts
    assert list(LeadEvent.objects.order_by("pk").values_list("kind", "at", "actor"))[: len(kinds)] == kinds
    assert f"Leads erased:                   1 ({anna.pk})" in output
    assert_audit_log_is_intact()


def test_the_report_and_the_event_contain_no_personal_data(anna, caplog):
    output = erase_anna()[1].lower()

    assert not [trace for trace in TRACES if trace in output or trace in caplog.text.lower()]
    event = LeadEvent.objects.get(lead=None, kind=EventKind.PERSON_ERASED)
    assert event.actor.startswith("cli:")
    numbers = {"attempts": 2, "events": 1, "bulk_actions": 0}
    assert event.detail == {"leads": str(anna.pk), "other_leads": "", "busy_leads": "", "details": {}} | numbers
    assert LeadEvent.objects.filter(lead=anna, kind=EventKind.ERASED).exists()


def test_leads_of_other_people_are_not_changed(anna):
    other = add_attempts(make.lead(status="DELIVERED", raw_payload=make.payload(email="joanna.schmitz@example.com")))

    def rows():
        return [*other.attempts.values(), *other.events.values(), *InboundLead.objects.filter(pk=other.pk).values()]

    before = rows()

    erase("--email", EMAIL)

    assert rows() == before


def test_mentions_in_another_persons_lead_are_replaced():
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

    code, output = erase_anna()

    assert (code, traces()) == (0, [])
    stored = InboundLead.objects.get()
    assert stored.raw_payload == body | {"referred_by": "[erased]", "partner": "[erased]"}
    assert stored.source_headers == {"Referer": "[erased]", "User-Agent": "x"}
    assert (stored.payload_hash, stored.search_email, stored.search_name) == (None, "bob@example.com", None)
    assert stored.erased_at is None
    assert [attempt.response_body for attempt in stored.attempts.order_by("pk")] == ["[erased]", "yes"]
    assert f"Other leads changed:            1 ({lead.pk})" in output
    assert_audit_log_is_intact()


def test_mentions_in_events_and_attempts_are_replaced_for_one_person_after_another():
    by_event, by_answer = make.lead(status="RECEIVED"), make.lead(status="RECEIVED")
    detail = {"reason": f"same as {EMAIL}", "note": "bob@example.com", "bulk_action": 3}
    make.event(by_event, "resolved", actor="bob", detail=detail)
    make.attempt(by_answer, error_message="0151-12345678", error={"code": "network", "detail": EMAIL})

    erase_anna()
    assert traces() == []
    assert by_answer.attempts.get().error == {"code": "network", "detail": "[erased]"}
    assert_audit_log_is_intact()
    erase("--email", "bob@example.com")

    erased = {"reason": "[erased]", "note": "[erased]", "bulk_action": 3}
    assert by_event.events.get(kind="resolved").detail == erased
    assert_audit_log_is_intact()


def test_changing_an_erased_detail_breaks_the_hash_chain(anna):
    erase_anna()
    event = LeadEvent.objects.get(lead=anna, kind="redelivered")
    assert (event.detail_salt, event.detail) == (None, {"reason": "[erased]"})

    with allow_audit_changes():
        LeadEvent.objects.filter(pk=event.pk).update(detail={"reason": "other"})

    assert run("verify_audit_log")[0] == 1


# --- bulk actions ----------------------------------------------------------------------------------------------------


def bulk_action(*leads, reason):
    action = BulkAction.objects.create(
        kind="redeliver", actor="bob", reason=reason, selection="x", created_at=timezone.now(), total=len(leads)
    )
    BulkActionItem.objects.bulk_create(BulkActionItem(bulk_action=action, lead=lead, outcome="done") for lead in leads)
    LeadEvent.objects.create(
        kind="bulk_action_created",
        actor="bob",
        detail={"bulk_action": action.pk, "reason": reason, "leads": len(leads)},
    )
    return action


def test_reasons_of_bulk_actions_are_erased(anna):
    named = bulk_action(anna, make.lead(), reason=f"{EMAIL} called")
    own = bulk_action(anna, reason="Frau Schmitz called")
    others = bulk_action(anna, make.lead(), reason="customer was down")

    erase_anna()

    assert traces() == []
    reasons = dict(BulkAction.objects.values_list("pk", "reason"))
    assert reasons == {named.pk: "[erased]", own.pk: "[erased]", others.pk: "customer was down"}
    created = LeadEvent.objects.filter(kind="bulk_action_created").order_by("pk")
    assert [event.detail["reason"] for event in created] == ["[erased]", "[erased]", "customer was down"]
    assert_audit_log_is_intact()


# --- leads in progress -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "closed_as"),
    [("RECEIVED", "REJECTED"), ("READY", "PERMANENTLY_FAILED"), ("FAILED", "PERMANENTLY_FAILED")],
)
def test_a_lead_in_progress_is_closed(status, closed_as):
    expired_claim = {"claim_token": uuid.uuid4(), "claimed_until": timezone.now() - timedelta(seconds=1)}
    lead = make.lead(status=status, raw_payload=payload(), **expired_claim)
    if status != "RECEIVED":
        LeadEvent.objects.create(lead=lead, kind="status", to_status=status, actor="worker")

    assert erase_anna()[0] == 0

    stored = InboundLead.objects.get()
    assert (stored.status, stored.rejection_reason, stored.next_attempt_at) == (closed_as, "PERSON_ERASED", None)
    assert stored.claim_token is None
    assert stored.resolved_at is not None
    assert not InboundLead.objects.due(timezone.now() + timedelta(days=9)).exists()
    assert_audit_log_is_intact()


def test_a_claimed_lead_is_left_for_a_second_run(anna):
    busy = make.lead(status="READY", raw_payload=payload(), claimed_until=timezone.now() + timedelta(seconds=30))

    code, output = erase_anna()

    assert code == 1
    assert f"Skipped, claimed by a worker:   1 ({busy.pk})" in output
    assert InboundLead.objects.get(pk=busy.pk).raw_payload == payload(email="Anna.Schmitz@Example.com")
    assert InboundLead.objects.get(pk=anna.pk).raw_payload == {}

    InboundLead.objects.filter(pk=busy.pk).update(claimed_until=None)
    assert erase_anna()[0] == 0
    assert traces() == []


@dataclass(frozen=True)
class ErasingCustomer(CustomerAPI):
    """A customer whose response arrives after the claim has expired and the person is erased."""

    def deliver(self, *args, **kwargs):
        response = super().deliver(*args, **kwargs)
        InboundLead.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
        assert erase_anna()[0] == 0
        return response


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_lost_its_lead_to_an_erasure_writes_nothing(config, customer):
    lead = make.lead(raw_payload=payload())

    advance(
        lead.pk,
        config=replace(
            config, customer=ErasingCustomer(config.customer.url, config.customer.token, config.customer.timeout)
        ),
    )

    assert len(customer.requests) == 1
    assert traces() == []
    assert DeliveryAttempt.objects.get().response_body is None


def test_the_same_payload_is_a_new_lead_afterwards():
    def post():
        return make.receive(make.new_lead(payload()), dedup_window=timedelta(days=1))

    first = post()
    assert post().duplicate
    erase_anna()

    again = post()
    assert not again.duplicate
    assert again.lead_id != first.lead_id


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_dry_run_and_a_missing_confirmation_change_nothing(anna):
    before = everything_stored()

    output = erase_anna("--dry-run")[1]
    with pytest.raises(CommandError, match=r"Nothing was changed.*--no-input"):
        run("erase_person", "--email", EMAIL)

    assert f"Leads of the person:            1 ({anna.pk})" in output
    assert everything_stored() == before


def test_an_erasure_without_matches_is_recorded_and_changes_no_lead(anna):
    assert erase("--email", "unknown@example.org")[0] == 0

    assert LeadEvent.objects.get(kind=EventKind.PERSON_ERASED).detail["leads"] == ""
    assert InboundLead.objects.get().raw_payload != {}


@pytest.mark.parametrize("arguments", [[], ["--email", "anna"]])
def test_an_invalid_person_is_an_error_that_quotes_nothing(arguments):
    with pytest.raises(CommandError, match=r"required|not valid") as error:
        erase(*arguments)

    assert not [given for given in arguments if given[:2] != "--" and given in str(error.value)]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_after_a_vacuum_the_files_contain_no_erased_data(anna):
    bulk_action(anna, reason="Frau Schmitz called")
    stored = database_files()
    assert [trace for trace in TRACES if trace.encode() in stored] == list(TRACES)

    erase_anna("--vacuum")

    stored = database_files()
    assert [trace for trace in TRACES if trace.encode() in stored] == []
    assert InboundLead.objects.get().raw_payload == {}


def database_files():
    """Return the bytes of the tables' files in lower case, with deleted rows that are still in them."""
    if connection.vendor == "sqlite":
        name = Path(connection.settings_dict["NAME"])
        return b"".join(file.read_bytes() for file in name.parent.glob(f"{name.name}*")).lower()
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute("SHOW data_directory")
        directory = Path(cursor.fetchone()[0])
        cursor.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 't', 'i') AND nspname IN ('public', 'pg_toast')"
        )
        files = [directory / path for (path,) in cursor.fetchall() if path]
    return b"".join(file.read_bytes() for file in files if file.exists()).lower()
