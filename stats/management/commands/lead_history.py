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
class Story:
    """All that is told of a lead, as it was at `now`."""

    lead: InboundLead
    attempts: list[DeliveryAttempt]
    trail: list[LeadEvent]
    now: datetime

    @property
    def standing(self) -> str:
        gate = DeliveryControl.objects.current()
        return status_summary(self.lead, self.attempts, now=self.now, policy=retry_policy(), control=gate)

    @property
    def running(self) -> DeliveryAttempt | None:
        return running_attempt(self.lead, self.attempts, now=self.now)


class Command(BaseCommand):
    help = "Show where a lead stands, and everything that happened to it; no personal data unless asked for."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, help="the lead's id")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--payload", action="store_true", help="show the payloads too: PERSONAL DATA, recorded")

    def handle(self, *args: Any, **options: Any) -> None:
        story = _story(options["id"])
        if options["payload"]:
            record(story.lead, EventKind.REVEALED, actor=actor(), now=story.now, detail={"by": "lead_history"})
        show = _json if options["json"] else _text
        self.stdout.write(show(story, with_payloads=options["payload"]))


def _story(lead_id: int) -> Story:
    now = timezone.now()
    lead = queries.find_lead(lead_id)
    if lead is None:
        raise CommandError(f"There is no lead {lead_id}.")
    return Story(lead, queries.attempts_of(lead_id), queries.events_of(lead_id), now)


def _json(story: Story, *, with_payloads: bool) -> str:
    told = queries.history(story.lead, story.attempts, now=story.now)
    if not with_payloads:
        told = {name: value for name, value in told.items() if not name.endswith("_payload")}
    for shown, attempt in zip(told["delivery_attempts"], story.attempts, strict=True):
        shown["duration_ms"] = attempt.duration_ms
    told |= {"correlation_id": str(story.lead.correlation_id), "standing": story.standing}
    told["trail"] = [
        {"at": timestamp(event.at), "actor": event.actor, "kind": event.kind, "what": event_text(event)}
        for event in story.trail
    ]
    return json.dumps(told, ensure_ascii=False, indent=2)


def _text(story: Story, *, with_payloads: bool) -> str:
    columns = terminal.width()
    parts = [
        terminal.sentence(story.standing, columns=columns),
        terminal.table(_facts(story), columns=columns),
        _titled("Trail", terminal.table(_trail_rows(story), columns=columns)),
        _titled("Attempts", terminal.table(_attempt_rows(story), columns=columns, right=(1, 4, 5))),
    ]
    if with_payloads:
        parts += [_payload(name, value) for name, value in queries.payloads(story.lead).items()]
    return "\n\n".join(parts)


def _titled(title: str, table: str) -> str:
    return f"{title}\n{table or '  (none)'}"


def _facts(story: Story) -> list[list[str]]:
    lead = story.lead
    received = f"{timestamp(lead.received_at)} ({span(story.now - lead.received_at)} ago)"
    erased = [["Erased", timestamp(lead.erased_at)]] if lead.erased_at else []
    return [["Status", lead.status], ["Received", received], *erased, ["Correlation id", str(lead.correlation_id)]]


def _trail_rows(story: Story) -> list[list[str]]:
    return [
        ["", timestamp(event.at), terminal.shortened(event.actor, _ACTOR_WIDTH), event_text(event)]
        for event in story.trail
    ]


def _attempt_rows(story: Story) -> list[list[str]]:
    running = story.running
    rows = [_attempt_row(attempt, running=running) for attempt in story.attempts]
    return [["", "no", "began", "outcome", "HTTP", "took", "error"], *rows] if rows else []


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
