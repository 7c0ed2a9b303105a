import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from delivery.configuration import retry_policy
from delivery.management.arguments import actor
from delivery.models import DeliveryAttempt, DeliveryControl
from leadgateway.time_format import span, timestamp
from leads.audit.recording import record
from leads.models import EventKind, InboundLead, LeadEvent
from stats.api import queries
from stats.management import terminal
from stats.text.events import event_text
from stats.text.status_summary import error_text, running_attempt, status_summary

_ACTOR_WIDTH = 12


@dataclass(frozen=True)
class History:
    """A lead with its attempts and events, at `now`."""

    lead: InboundLead
    attempts: list[DeliveryAttempt]
    events: list[LeadEvent]
    now: datetime

    @property
    def status_summary(self) -> str:
        control = DeliveryControl.objects.current()
        return status_summary(self.lead, self.attempts, now=self.now, policy=retry_policy(), control=control)

    @property
    def running(self) -> DeliveryAttempt | None:
        return running_attempt(self.lead, self.attempts, now=self.now)


class Command(BaseCommand):
    help = "Show the status of a lead, its timeline and its delivery attempts, without personal data unless requested."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, help="the lead's id")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--payload", action="store_true", help="also show the payloads: PERSONAL DATA; recorded in the audit log"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        history = _load(options["id"])
        if options["payload"]:
            record(history.lead, EventKind.REVEALED, actor=actor(), now=history.now, detail={"by": "lead_history"})
        show = _json if options["json"] else _text
        self.stdout.write(show(history, with_payloads=options["payload"]))


def _load(lead_id: int) -> History:
    now = timezone.now()
    lead = queries.find_lead(lead_id)
    if lead is None:
        raise CommandError(f"There is no lead {lead_id}.")
    return History(lead, queries.attempts_of(lead_id), queries.events_of(lead_id), now)


def _json(history: History, *, with_payloads: bool) -> str:
    shown = queries.history(history.lead, history.attempts, now=history.now)
    if not with_payloads:
        shown = {name: value for name, value in shown.items() if not name.endswith("_payload")}
    for row, attempt in zip(shown["delivery_attempts"], history.attempts, strict=True):
        row["duration_ms"] = attempt.duration_ms
    shown |= {"correlation_id": str(history.lead.correlation_id), "status_summary": history.status_summary}
    shown["timeline"] = [
        {"at": timestamp(event.at), "actor": event.actor, "kind": event.kind, "what": event_text(event)}
        for event in history.events
    ]
    return json.dumps(shown, ensure_ascii=False, indent=2)


def _text(history: History, *, with_payloads: bool) -> str:
    columns = terminal.width()
    parts = [
        terminal.sentence(history.status_summary, columns=columns),
        terminal.table(_facts(history), columns=columns),
        _titled("Timeline", terminal.table(_event_rows(history), columns=columns)),
        _titled("Attempts", terminal.table(_attempt_rows(history), columns=columns, right=(1, 4, 5))),
    ]
    if with_payloads:
        parts += [_payload(name, value) for name, value in queries.payloads(history.lead).items()]
    return "\n\n".join(parts)


def _titled(title: str, table: str) -> str:
    return f"{title}\n{table or '  (none)'}"


def _facts(history: History) -> list[list[str]]:
    lead = history.lead
    received = f"{timestamp(lead.received_at)} ({span(history.now - lead.received_at)} ago)"
    erased = [["Erased", timestamp(lead.erased_at)]] if lead.erased_at else []
    return [["Status", lead.status], ["Received", received], *erased, ["Correlation id", str(lead.correlation_id)]]


def _event_rows(history: History) -> list[list[str]]:
    return [
        ["", timestamp(event.at), terminal.shortened(event.actor, _ACTOR_WIDTH), event_text(event)]
        for event in history.events
    ]


def _attempt_rows(history: History) -> list[list[str]]:
    running = history.running
    rows = [_attempt_row(attempt, running=running) for attempt in history.attempts]
    return [["", "no", "started", "outcome", "HTTP", "took", "error"], *rows] if rows else []


def _attempt_row(attempt: DeliveryAttempt, *, running: DeliveryAttempt | None) -> list[str]:
    return [
        "",
        str(attempt.attempt_no),
        timestamp(attempt.requested_at),
        _outcome(attempt, running=running),
        "-" if attempt.response_status is None else str(attempt.response_status),
        "-" if attempt.duration_ms is None else f"{attempt.duration_ms} ms",
        error_text(attempt, running=running) or "-",
    ]


def _outcome(attempt: DeliveryAttempt, *, running: DeliveryAttempt | None) -> str:
    if not attempt.has_outcome:
        return "running" if attempt is running else "unknown"
    return "delivered" if attempt.success else "failed"


def _payload(name: str, value: Any) -> str:
    return f"{name}\n{terminal.printable(json.dumps(value, ensure_ascii=False, indent=2))}"
