"""`redeliver`, `reprocess` and `requeue_stuck`, from the command line to the row, the trail and the doorbell."""

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

from delivery.management.commands import requeue_stuck
from leadgateway import queue
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from tests import make

pytestmark = pytest.mark.django_db

Doorbells = Callable[[], list[int]]

S = LeadStatus


def run(*arguments: str) -> tuple[str, int]:
    """Run a command; return what it printed and its exit code."""
    output = StringIO()
    try:
        call_command(*arguments, stdout=output)
    except SystemExit as end:
        return output.getvalue(), int(end.code or 0)
    return output.getvalue(), 0


def ids(*leads: InboundLead) -> list[str]:
    return [str(lead.pk) for lead in leads]


def snapshot() -> list[dict[str, Any]]:
    """Everything of every lead and its trail."""
    return [*InboundLead.objects.order_by("pk").values(), *LeadEvent.objects.order_by("pk").values()]


class Terminal(StringIO):
    """A keyboard at which the answer is typed already."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def queue_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lead_id: int, **_: Any) -> None:
        raise queue.QueueUnavailable("ConnectionError")

    monkeypatch.setattr(queue, "enqueue", refuse)


@pytest.mark.parametrize(
    "arguments", [["redeliver", "1", "--reason", "test"], ["reprocess", "1", "--reason", "test"], ["requeue_stuck"]]
)
def test_a_database_that_is_away_is_told_in_a_sentence(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadgateway.dependencies.database_problem", lambda: "Connection refused")

    with pytest.raises(CommandError, match="The database cannot be used: Connection refused"):
        run(*arguments)


# --- redeliver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.FAILED, S.PERMANENTLY_FAILED])
def test_a_redelivered_lead_is_ready_due_and_rung_for(queued_leads: Doorbells, status: LeadStatus) -> None:
    lead = make.lead(status=status, next_attempt_at=None)

    output, code = run("redeliver", str(lead.pk), "--reason", "their token had lapsed")

    lead.refresh_from_db()
    assert (lead.status, code) == (S.READY, 0)
    assert lead.next_attempt_at <= timezone.now()
    assert queued_leads() == [lead.pk]
    assert lead.enqueued_at is not None
    assert f"lead {lead.pk}: to be redelivered" in output


def test_the_trail_names_the_user_of_the_operating_system_and_the_reason(queued_leads: Doorbells) -> None:
    lead = make.lead(status=S.FAILED, next_attempt_at=None)

    run("redeliver", str(lead.pk), "--reason", "their token had lapsed")

    ordered = LeadEvent.objects.get(lead=lead, kind=EventKind.REDELIVERED)
    assert ordered.actor == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    assert ordered.detail == {"reason": "their token had lapsed"}


def test_a_user_without_a_name_is_known_by_number(queued_leads: Doorbells, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    lead = make.lead(status=S.FAILED, next_attempt_at=None)

    run("redeliver", str(lead.pk), "--reason", "test")

    assert LeadEvent.objects.filter(lead=lead, actor=f"cli:{os.getuid()}").exists()


def test_a_delivered_lead_is_redelivered_only_on_demand(queued_leads: Doorbells) -> None:
    lead = make.lead(status=S.DELIVERED)
    before = snapshot()

    output, code = run("redeliver", str(lead.pk), "--reason", "test")

    assert code == 1
    assert "REFUSED" in output
    assert "--include-delivered" in output
    assert snapshot() == before
    assert queued_leads() == []

    assert run("redeliver", str(lead.pk), "--reason", "they lost it", "--include-delivered")[1] == 0
    lead.refresh_from_db()
    assert lead.status == S.READY
    assert queued_leads() == [lead.pk]


def test_one_refused_lead_does_not_stop_the_others_but_is_an_error(queued_leads: Doorbells) -> None:
    first, rejected, last = (make.lead(status=status) for status in (S.FAILED, S.REJECTED, S.PERMANENTLY_FAILED))

    output, code = run("redeliver", *ids(first, rejected, last), "999999", "--reason", "test")

    assert code == 1
    assert queued_leads() == [first.pk, last.pk]
    assert f"REFUSED: lead {rejected.pk} " in output
    assert "there is no lead 999999" in output
    assert "2 of 4 leads" in output
    rejected.refresh_from_db()
    assert rejected.status == S.REJECTED


def test_all_of_a_status_since_a_while(queued_leads: Doorbells) -> None:
    recent = make.lead(status=S.PERMANENTLY_FAILED)
    old = make.lead(status=S.PERMANENTLY_FAILED, received_at=timezone.now() - timedelta(hours=3))
    other = make.lead(status=S.FAILED, next_attempt_at=None)

    assert run("redeliver", "--status", "PERMANENTLY_FAILED", "--since", "2h", "--reason", "outage")[1] == 0

    assert queued_leads() == [recent.pk]
    assert [InboundLead.objects.get(pk=lead.pk).status for lead in (old, other)] == [S.PERMANENTLY_FAILED, S.FAILED]


def test_all_of_a_status_with_no_since_is_all_of_it(queued_leads: Doorbells) -> None:
    make.lead(status=S.PERMANENTLY_FAILED, received_at=timezone.now() - timedelta(days=300))

    assert "1 of 1 lead ordered" in run("redeliver", "--status", "PERMANENTLY_FAILED", "--reason", "outage")[0]
    assert len(queued_leads()) == 1


def test_a_dry_run_shows_the_leads_and_touches_none(queued_leads: Doorbells) -> None:
    leads = [make.lead(status=S.PERMANENTLY_FAILED) for _ in range(2)]
    before = snapshot()

    output, code = run("redeliver", "--status", "PERMANENTLY_FAILED", "--reason", "test", "--dry-run")

    assert code == 0
    assert all(f"lead {lead.pk}: PERMANENTLY_FAILED" in output for lead in leads)
    assert "nothing was done" in output
    assert snapshot() == before
    assert queued_leads() == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1", "--status", "FAILED"],
        ["1", "--since", "2h"],
        ["--since", "2h"],
        ["--status", "LOST"],
        ["--status", "FAILED", "--since", "yesterday"],
        ["1", "--reason", "  "],
        ["one"],
    ],
    ids=" ".join,
)
def test_an_order_that_is_not_clear_is_refused(arguments: list[str], queued_leads: Doorbells) -> None:
    make.lead(status=S.FAILED, next_attempt_at=None)
    before = snapshot()

    with pytest.raises(CommandError):
        run("redeliver", "--reason", "test", *arguments)

    assert snapshot() == before
    assert queued_leads() == []


@pytest.mark.parametrize("command", ["redeliver", "reprocess"])
def test_no_order_without_a_reason(command: str) -> None:
    with pytest.raises(CommandError, match="--reason"):
        run(command, "1")


@pytest.mark.parametrize(("typed", "ordered"), [("y\n", 2), ("yes\n", 2), ("\n", 0), ("n\n", 0), ("what\n", 0)])
def test_at_a_terminal_more_than_one_lead_is_asked_for(
    typed: str, ordered: int, queued_leads: Doorbells, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = [make.lead(status=S.FAILED, next_attempt_at=None) for _ in range(2)]
    monkeypatch.setattr(sys, "stdin", Terminal(typed))

    try:
        run("redeliver", *ids(*leads), "--reason", "test")
    except CommandError as error:
        assert str(error) == "Nothing was done."  # noqa: PT017

    assert len(queued_leads()) == ordered
    assert InboundLead.objects.filter(status=S.READY).count() == ordered


@pytest.mark.parametrize("extra", [["--yes"], []], ids=["--yes", "one lead"])
def test_nothing_is_asked_with_yes_or_for_a_single_lead(
    extra: list[str], queued_leads: Doorbells, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = [make.lead(status=S.FAILED, next_attempt_at=None) for _ in range(2 if extra else 1)]
    monkeypatch.setattr(sys, "stdin", Terminal(""))  # a question would meet the end of the file

    assert run("redeliver", *ids(*leads), "--reason", "test", *extra)[1] == 0
    assert queued_leads() == [lead.pk for lead in leads]


def test_a_lead_named_twice_is_ordered_once(queued_leads: Doorbells) -> None:
    lead = make.lead(status=S.FAILED, next_attempt_at=None)

    assert run("redeliver", *ids(lead, lead), "--reason", "test")[1] == 0
    assert queued_leads() == [lead.pk]


@pytest.mark.usefixtures("queue_is_away")
def test_an_order_stands_when_the_queue_is_away() -> None:
    lead = make.lead(status=S.FAILED, next_attempt_at=None)

    output, code = run("redeliver", str(lead.pk), "--reason", "test")

    lead.refresh_from_db()
    assert code == 0
    assert "the queue is away" in output
    assert (lead.status, lead.enqueued_at) == (S.READY, None)  # so that the sweep rings


# --- reprocess -------------------------------------------------------------------------------------------------------


def test_a_reprocessed_lead_starts_over_from_received(queued_leads: Doorbells) -> None:
    lead = make.lead(status=S.REJECTED)

    output, code = run("reprocess", str(lead.pk), "--reason", "the area has grown")

    lead.refresh_from_db()
    assert (lead.status, lead.rejection_reason, code) == (S.RECEIVED, None, 0)
    assert queued_leads() == [lead.pk]
    assert LeadEvent.objects.get(lead=lead, kind=EventKind.REPROCESSED).detail == {"reason": "the area has grown"}
    assert f"lead {lead.pk}: to be reprocessed" in output


def test_a_delivered_lead_is_never_reprocessed(queued_leads: Doorbells) -> None:
    lead = make.lead(status=S.DELIVERED)
    before = snapshot()

    output, code = run("reprocess", str(lead.pk), "--reason", "test")

    assert code == 1
    assert "REFUSED" in output
    assert snapshot() == before
    assert queued_leads() == []


def test_reprocess_wants_to_know_which_leads() -> None:
    with pytest.raises(CommandError, match="Which leads"):
        run("reprocess", "--reason", "test")


# --- requeue_stuck ---------------------------------------------------------------------------------------------------


def overdue(**columns: Any) -> InboundLead:
    return make.lead(**{"next_attempt_at": timezone.now() - timedelta(minutes=5), **columns})


def test_every_overdue_lead_is_rung_for_and_counted_by_status(queued_leads: Doorbells) -> None:
    stuck = [overdue(), overdue(), overdue(status=S.READY), overdue(status=S.FAILED, enqueued_at=make.NOON)]

    output, code = run("requeue_stuck")

    assert code == 0
    assert queued_leads() == [lead.pk for lead in stuck]
    assert [line.split() for line in output.splitlines()[:3]] == [["FAILED", "1"], ["READY", "1"], ["RECEIVED", "2"]]
    assert "4 leads requeued" in output
    assert not InboundLead.objects.filter(enqueued_at=None).exists()  # the sweep need not ring again


def test_what_is_not_overdue_closed_or_in_a_workers_hands_is_left_alone(queued_leads: Doorbells) -> None:
    now = timezone.now()
    make.lead(next_attempt_at=now - timedelta(seconds=30))
    make.lead(status=S.FAILED, next_attempt_at=now + timedelta(minutes=1))
    make.lead(status=S.FAILED, next_attempt_at=None)
    make.lead(status=S.DELIVERED)
    overdue(claimed_until=now + timedelta(minutes=1))
    before = snapshot()

    assert "No lead is stuck" in run("requeue_stuck")[0]
    assert snapshot() == before
    assert queued_leads() == []


def test_older_than_says_how_overdue(queued_leads: Doorbells) -> None:
    lead = make.lead(next_attempt_at=timezone.now() - timedelta(seconds=30))

    run("requeue_stuck", "--older-than", "10s")

    assert queued_leads() == [lead.pk]


def test_a_dry_run_only_counts(queued_leads: Doorbells) -> None:
    overdue()
    before = snapshot()

    output, _ = run("requeue_stuck", "--dry-run")

    assert "RECEIVED" in output
    assert "1 lead would be requeued" in output
    assert snapshot() == before
    assert queued_leads() == []


def test_many_leads_go_in_batches_each_once(queued_leads: Doorbells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue_stuck, "BATCH", 2)
    stuck = [overdue() for _ in range(5)]

    output, _ = run("requeue_stuck")

    assert queued_leads() == [lead.pk for lead in stuck]
    assert [line for line in output.splitlines() if " of " in line] == ["2 of 5", "4 of 5", "5 of 5"]


@pytest.mark.usefixtures("queue_is_away")
def test_a_queue_that_is_away_ends_it_and_leaves_the_leads_to_the_sweep() -> None:
    lead = overdue(enqueued_at=make.NOON)

    with pytest.raises(CommandError, match="The queue is away"):
        run("requeue_stuck")

    lead.refresh_from_db()
    assert lead.enqueued_at is None
    assert lead.status == S.RECEIVED
