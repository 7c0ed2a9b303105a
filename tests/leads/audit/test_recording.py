import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from leads.audit.recording import build_event, record_all, record_system_event
from leads.models import EventKind, LeadEvent, LeadStatus
from leads.status import change_status
from tests import make
from tests.commands import output_of

pytestmark = pytest.mark.django_db


def event(lead, kind, **kwargs):
    return build_event(lead, kind, actor="worker", now=make.NOON, **kwargs)


def test_several_events_are_one_insert_and_keep_the_hash_chains_valid():
    first, second = make.lead(), make.lead()
    kinds = [EventKind.MAPPED, EventKind.ATTEMPT_STARTED, EventKind.ATTEMPT_FINISHED]
    record_system_event(EventKind.CIRCUIT_OPENED, actor="worker", now=make.NOON, detail={})

    with CaptureQueriesContext(connection) as queries:
        record_all(event(lead, kind, detail={"é": None}) for lead in (first, second) for kind in kinds)

    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]
    for lead in (first, second):
        assert list(lead.events.order_by("id").values_list("kind", flat=True)) == kinds
    output_of("verify_audit_log")


def test_an_event_does_not_repeat_what_the_lead_says_and_leaves_out_empty_values():
    lead = make.lead()
    detail = {"response_status": 200, "error": None, "omitted": {}, "attributes": [], "attempt_no": 0}
    record_all([event(lead, EventKind.ATTEMPT_FINISHED, detail=detail)])

    recorded = lead.events.get()
    assert (recorded.correlation_id, recorded.detail) == (None, {"response_status": 200, "attempt_no": 0})


def test_a_status_change_records_the_events_of_its_step_in_order_with_one_insert():
    lead = make.lead(status="RECEIVED")

    with CaptureQueriesContext(connection) as queries:
        change_status(
            lead,
            LeadStatus.READY,
            actor="worker",
            now=make.NOON,
            events_before=[event(lead, EventKind.RECEIVED)],
            events_after=[event(lead, EventKind.MAPPED), event(lead, EventKind.ATTEMPT_STARTED)],
        )

    assert [query["sql"].split()[0] for query in queries] == ["UPDATE", "INSERT"]
    kinds = list(LeadEvent.objects.filter(lead=lead).order_by("id").values_list("kind", flat=True))
    assert kinds == ["received", "status", "mapped", "attempt_started"]
    output_of("verify_audit_log")
