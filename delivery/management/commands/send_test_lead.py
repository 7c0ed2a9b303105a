import json
import secrets
import time
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from delivery.management.arguments import duration
from leadgateway.dependencies import reason
from leads.models import InboundLead, LeadEvent, LeadStatus
from leads.rules import rejection_reason

POLL_S = 0.2
_TIMEOUT_S = 10


class Command(BaseCommand):
    help = "Post a test lead to the running gateway and follow it until it is delivered."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        url = f"http://localhost:{settings.API_PORT}"
        parser.add_argument("--url", default=url, help=f"where the gateway is ({url})")
        parser.add_argument("--phone", default="+49123456789", help="its phone number (+49123456789)")
        parser.add_argument("--zipcode", default="66123", help="its zip code (66123)")
        parser.add_argument("--not-owner", action="store_true", help="a lead that must be rejected")
        parser.add_argument("--secret", help="the shared secret (the first of SHARED_SECRET when ENABLE_AUTH is on)")
        parser.add_argument(
            "--wait", type=duration, default=timedelta(seconds=30), metavar="30s", help="follow it for so long (30s)"
        )

    def _tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # each step when it happens, also through a pipe

    def handle(self, *args: Any, **options: Any) -> None:
        payload = _payload(options)
        answer = self._post(payload, options)
        lead = _find(answer)
        self._tell(f"Following lead {lead.pk} for up to {options['wait'].total_seconds():g} s:")
        self._follow(lead, seconds=options["wait"].total_seconds())
        self._judge(lead, expected=rejection_reason(payload))

    def _post(self, payload: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        url = f"{options['url'].rstrip('/')}/webhooks/leads"
        try:
            response = requests.post(
                url, json=payload, headers=_headers(options["secret"]), timeout=_TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as error:
            raise CommandError(
                f"{url} does not answer ({type(error).__name__}). Is the gateway running there?"
            ) from error
        self._tell(f"POST {url} -> {response.status_code} in {response.elapsed.total_seconds() * 1000:.0f} ms")
        self._tell(response.text[:1000])
        if response.status_code != 200:
            raise CommandError("The lead was not accepted.")
        return _as_object(response)

    def _follow(self, lead: InboundLead, *, seconds: float) -> None:
        """Tell each event of the lead until nothing more will happen by itself, or time is up."""
        ends, told = time.monotonic() + seconds, 0
        while True:
            lead.refresh_from_db(fields=["status", "rejection_reason", "next_attempt_at"])
            for event in LeadEvent.objects.filter(lead=lead, pk__gt=told).order_by("pk"):
                self._tell(f"  {event.at:%H:%M:%S.%f}"[:-3] + f"  {_told(event)}")
                told = event.pk
            if lead.next_attempt_at is None or time.monotonic() > ends:
                return
            time.sleep(POLL_S)

    def _judge(self, lead: InboundLead, *, expected: str | None) -> None:
        if expected is None and lead.status == LeadStatus.DELIVERED:
            self._tell("DELIVERED, as expected.")
        elif expected is not None and lead.status == LeadStatus.REJECTED and lead.rejection_reason == expected:
            self._tell(f"REJECTED ({expected}), as expected.")
        else:
            why = f" ({lead.rejection_reason})" if lead.rejection_reason else ""
            wanted = f"REJECTED ({expected})" if expected else "DELIVERED"
            raise CommandError(f"{lead.status}{why}; expected {wanted}. {_advice(lead)}")


def _payload(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "email": f"test-{secrets.token_hex(6)}@example.com",  # fresh, so that it is no duplicate
        "phone": options["phone"],
        "zipcode": options["zipcode"],
        "house": {"is_owner": not options["not_owner"]},
        "solar_energy_consumption": "5000",
        "solar_offer_type": "Kaufen",
    }


def _headers(secret: str | None) -> dict[str, str]:
    if secret is None and settings.ENABLE_AUTH:
        secret = settings.SHARED_SECRETS[0]
    return {} if secret is None else {"X-Shared-Secret": secret}


def _as_object(response: requests.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not {"lead_id", "correlation_id"} <= answer.keys():
        raise CommandError("That is no answer of Lead Gateway: something else listens there.")
    return answer


def _find(answer: dict[str, Any]) -> InboundLead:
    """Return the lead, if the gateway that answered uses the same database as this command."""
    try:
        return InboundLead.objects.get(pk=answer["lead_id"], correlation_id=answer["correlation_id"])
    except InboundLead.DoesNotExist:
        raise CommandError(
            "It was accepted, but it is not in the database that this command uses, so it cannot be followed. "
            "Run it where the gateway runs, with the same environment."
        ) from None
    except DatabaseError as error:
        raise CommandError(f"It was accepted, but the database cannot be read to follow it: {reason(error)}") from error


def _told(event: LeadEvent) -> str:
    words = [event.get_kind_display()]
    if event.to_status:
        words.append(f"{event.from_status} -> {event.to_status}")
    shown = (
        "attempt_no",
        "response_status",
        "error",
        "duration_ms",
        "next_attempt_in_s",
        "reason",
        "missing",
        "omitted",
    )
    words += [f"{key}={event.detail[key]}" for key in shown if event.detail.get(key) not in (None, {}, [])]
    return ", ".join(words)


def _advice(lead: InboundLead) -> str:
    if lead.status == LeadStatus.RECEIVED:
        return "No worker took it: is one running? `manage.py doctor` looks at all of it."
    if lead.status == LeadStatus.READY:
        return "The delivery is still under way."
    if lead.status == LeadStatus.FAILED and lead.next_attempt_at:
        return f"It is tried again at {lead.next_attempt_at:%H:%M:%S} UTC."
    return "Its trail is in the admin."
