"""`redeliver`, `reprocess` and `requeue_stuck`."""

import os
import pwd
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from delivery.management.arguments import actor
from leadgateway import queue
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

QueuedLeads = Callable[[], list[int]]

S = LeadStatus


def run(*arguments: str) -> tuple[str, int]:
    """Run a command; return its output and its exit code."""
    output = StringIO()
    try:
        call_command(*arguments, stdout=output)
    except SystemExit as end:
        return output.getvalue(), int(end.code or 0)
    return output.getvalue(), 0


def ids(*leads: InboundLead) -> list[str]:
    return [str(lead.pk) for lead in leads]


def failed_lead() -> InboundLead:
    return make.lead(status=S.FAILED, next_attempt_at=None)


@pytest.fixture
def nothing_changes(queued_leads: QueuedLeads) -> Callable[[], bool]:
    """Return a function that returns whether all leads and events are as when it was first called."""
    before: list[list[dict[str, Any]]] = []

    def check() -> bool:
        before.append([*InboundLead.objects.order_by("pk").values(), *LeadEvent.objects.order_by("pk").values()])
        return before[0] == before[-1] and queued_leads() == []

    return check


class Terminal(StringIO):
    """A terminal at which the answer is already typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def queue_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_lead_ids: list[int], **_: Any) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", fail)


@pytest.mark.parametrize(
    "arguments", [["redeliver", "1", "--reason", "test"], ["reprocess", "1", "--reason", "test"], ["requeue_stuck"]]
)
def test_an_unavailable_database_is_reported(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadgateway.dependencies.database_problem", lambda: "Connection refused")

    with pytest.raises(CommandError, match="The database cannot be used: Connection refused"):
        run(*arguments)


# --- redeliver -------------------------------------------------------------------------------------------------------


def test_redeliver_makes_the_lead_due_and_enqueues_it(queued_leads: QueuedLeads) -> None:
    lead = failed_lead()

    output, code = run("redeliver", str(lead.pk), "--reason", "their token had expired")

    lead.refresh_from_db()
    assert (lead.status, code) == (S.READY, 0)
    assert lead.next_attempt_at <= timezone.now()
    assert queued_leads() == [lead.pk]
    assert lead.enqueued_at is not None
    assert output == f"Lead {lead.pk} will be redelivered.\n1 lead will be redelivered, 0 skipped.\n"
    event = LeadEvent.objects.get(lead=lead, kind=EventKind.REDELIVERED)
    assert event.actor == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    assert event.detail == {"reason": "their token had expired"}


def test_a_user_without_a_name_is_recorded_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_uid: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", fail)

    assert actor() == f"cli:{os.getuid()}"


def test_a_delivered_lead_is_only_redelivered_on_request(
    queued_leads: QueuedLeads, nothing_changes: Callable[[], bool]
) -> None:
    lead = make.lead(status=S.DELIVERED)
    nothing_changes()

    output, code = run("redeliver", str(lead.pk), "--reason", "test")

    assert code == 1
    assert f"Skipped: Lead {lead.pk} was already delivered. Use --include-delivered to send it again.\n" in output
    assert nothing_changes()

    assert run("redeliver", str(lead.pk), "--reason", "they lost it", "--include-delivered")[1] == 0
    lead.refresh_from_db()
    assert lead.status == S.READY
    assert queued_leads() == [lead.pk]


def test_a_skipped_lead_does_not_stop_the_others_and_each_lead_is_processed_once(queued_leads: QueuedLeads) -> None:
    first, rejected, last = (make.lead(status=status) for status in (S.FAILED, S.REJECTED, S.PERMANENTLY_FAILED))

    output, code = run("redeliver", *ids(first, rejected, last, first), "999999", "--reason", "test")

    assert code == 1
    assert queued_leads() == [first.pk, last.pk]
    assert f"Skipped: Lead {rejected.pk} has no customer payload; reprocess it instead.\n" in output
    assert "Skipped: Lead 999999 does not exist.\n" in output
    assert output.endswith("2 leads will be redelivered, 2 skipped.\n")
    rejected.refresh_from_db()
    assert rejected.status == S.REJECTED


def test_leads_are_selected_by_status_and_age(queued_leads: QueuedLeads) -> None:
    old = make.lead(status=S.PERMANENTLY_FAILED, received_at=timezone.now() - timedelta(hours=3))
    recent = make.lead(status=S.PERMANENTLY_FAILED)
    failed_lead()

    for since, selected in ((["--since", "2h"], recent), ([], old)):
        assert run("redeliver", "--status", "PERMANENTLY_FAILED", *since, "--reason", "outage")[1] == 0
        assert queued_leads() == [selected.pk]


def test_a_dry_run_lists_the_leads_and_changes_nothing(nothing_changes: Callable[[], bool]) -> None:
    lead = make.lead(status=S.PERMANENTLY_FAILED)
    nothing_changes()

    output, code = run("redeliver", str(lead.pk), "999999", "--reason", "test", "--dry-run")

    listed = f"Lead {lead.pk}: PERMANENTLY_FAILED\nLead 999999: does not exist\n"
    assert (output, code) == (f"{listed}2 leads selected. Nothing was changed.\n", 0)
    assert nothing_changes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["redeliver", "--reason", "test"],
        ["redeliver", "--reason", "test", "1", "--status", "FAILED"],
        ["redeliver", "--reason", "test", "1", "--since", "2h"],
        ["redeliver", "--reason", "test", "--since", "2h"],
        ["redeliver", "--reason", "test", "--status", "FAILED", "--since", "yesterday"],
        ["redeliver", "--reason", "  ", "1"],
        ["redeliver", "1"],
        ["reprocess", "1"],
        ["reprocess", "--reason", "test"],
    ],
    ids=" ".join,
)
def test_invalid_arguments_change_nothing(arguments: list[str], nothing_changes: Callable[[], bool]) -> None:
    failed_lead()
    nothing_changes()

    with pytest.raises(CommandError):
        run(*arguments)

    assert nothing_changes()


@pytest.mark.parametrize(
    ("leads", "typed", "options"), [(2, "y\n", []), (2, "yes\n", []), (2, "", ["--no-input"]), (1, "", [])]
)
def test_several_leads_are_redelivered_after_confirmation(
    leads: int, typed: str, options: list[str], queued_leads: QueuedLeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [failed_lead() for _ in range(leads)]
    monkeypatch.setattr(sys, "stdin", Terminal(typed))  # a question would find the end of an empty file

    assert run("redeliver", *ids(*failed), "--reason", "test", *options)[1] == 0

    assert queued_leads() == [lead.pk for lead in failed]


@pytest.mark.parametrize("typed", ["\n", "n\n"])
def test_without_confirmation_nothing_changes(
    typed: str, nothing_changes: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = [failed_lead(), failed_lead()]
    nothing_changes()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))

    with pytest.raises(CommandError, match="Nothing was changed"):
        run("redeliver", *ids(*leads), "--reason", "test")

    assert nothing_changes()


@pytest.mark.usefixtures("queue_unavailable")
def test_redeliver_succeeds_when_the_queue_is_unavailable() -> None:
    lead = failed_lead()

    output, code = run("redeliver", str(lead.pk), "--reason", "test")

    lead.refresh_from_db()
    assert code == 0
    assert f"Lead {lead.pk} will be redelivered when the queue is available again.\n" in output
    assert (lead.status, lead.enqueued_at) == (S.READY, None)  # so that the sweep enqueues it


# --- reprocess -------------------------------------------------------------------------------------------------------


def test_reprocess_restarts_the_lead_from_received(queued_leads: QueuedLeads) -> None:
    lead = make.lead(status=S.REJECTED)

    output, code = run("reprocess", str(lead.pk), "--reason", "the area has grown")

    lead.refresh_from_db()
    assert (lead.status, lead.rejection_reason, code) == (S.RECEIVED, None, 0)
    assert queued_leads() == [lead.pk]
    assert LeadEvent.objects.get(lead=lead, kind=EventKind.REPROCESSED).detail == {"reason": "the area has grown"}
    assert f"Lead {lead.pk} will be reprocessed.\n" in output


# --- requeue_stuck ---------------------------------------------------------------------------------------------------


def overdue(**columns: Any) -> InboundLead:
    return make.lead(**{"next_attempt_at": timezone.now() - timedelta(minutes=5), **columns})


def test_each_overdue_lead_is_enqueued_and_counted_by_status(queued_leads: QueuedLeads) -> None:
    stuck = [overdue(), overdue(), overdue(status=S.READY), overdue(status=S.FAILED, enqueued_at=make.NOON)]

    assert run("requeue_stuck", "--dry-run")[0].endswith("\n4 leads would be requeued. Nothing was changed.\n")
    assert queued_leads() == []
    output, code = run("requeue_stuck")

    assert code == 0
    assert queued_leads() == [lead.pk for lead in stuck]
    *counts, summary = output.splitlines()
    assert [line.split() for line in counts] == [["FAILED", "1"], ["READY", "1"], ["RECEIVED", "2"]]
    assert summary == "4 leads requeued."
    assert not InboundLead.objects.filter(enqueued_at=None).exists()  # so that the sweep does not enqueue them again


def test_leads_that_are_not_overdue_closed_or_claimed_are_not_requeued(
    nothing_changes: Callable[[], bool], queued_leads: QueuedLeads
) -> None:
    now = timezone.now()
    recent = make.lead(next_attempt_at=now - timedelta(seconds=30))
    make.lead(status=S.FAILED, next_attempt_at=now + timedelta(minutes=1))
    failed_lead()
    make.lead(status=S.DELIVERED)
    overdue(claimed_until=now + timedelta(minutes=1))
    nothing_changes()

    assert run("requeue_stuck")[0] == "No lead is stuck.\n"
    assert nothing_changes()
    run("requeue_stuck", "--older-than", "10s")
    assert queued_leads() == [recent.pk]


@pytest.mark.usefixtures("queue_unavailable")
def test_requeue_stuck_fails_when_the_queue_is_unavailable() -> None:
    lead = overdue(enqueued_at=make.NOON)

    with pytest.raises(CommandError, match="The queue is unavailable"):
        run("requeue_stuck")

    lead.refresh_from_db()
    assert lead.enqueued_at is None  # so that the sweep enqueues it
    assert lead.status == S.RECEIVED
