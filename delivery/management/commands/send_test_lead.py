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
from leadgateway.dependencies import reason as error_reason
from leads.models import InboundLead, LeadEvent, LeadStatus
from leads.rules import rejection_reason

#: Seconds between two queries for the lead.
_POLL_INTERVAL_S = 0.2

#: Seconds to wait for the gateway's response.
_TIMEOUT_S = 10

#: The keys of an event's detail that are shown.
_SHOWN_KEYS = (
    *("attempt_no", "response_status", "error", "duration_ms"),
    *("next_attempt_in_s", "reason", "missing", "omitted"),
)


class Command(BaseCommand):
    help = "Send a test lead to the running gateway and show its events until it is delivered."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        url = f"http://localhost:{settings.API_PORT}"
        parser.add_argument("--url", default=url, help=f"address of the gateway (default: {url})")
        parser.add_argument("--phone", default="+49123456789", help="phone number of the lead (default: +49123456789)")
        parser.add_argument("--zipcode", default="66123", help="zip code of the lead (default: 66123)")
        parser.add_argument("--not-owner", action="store_true", help="send a lead that must be rejected")
        parser.add_argument(
            "--secret", help="shared secret (default: the first of SHARED_SECRET if ENABLE_AUTH is true)"
        )
        parser.add_argument(
            "--wait",
            type=duration,
            default=timedelta(seconds=30),
            metavar="DURATION",
            help="how long to wait for the delivery (default: 30s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        payload = _payload(options)
        lead = _find_lead(self._post(payload, options))
        seconds = options["wait"].total_seconds()
        self._print(f"Waiting up to {seconds:g} s for lead {lead.pk}:")
        self._follow(lead, seconds=seconds)
        self._check_result(lead, expected_rejection=rejection_reason(payload))

    def _print(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # shows each event when it happens, also through a pipe

    def _post(self, payload: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """Post the lead and return the JSON object in the response.

        :raises CommandError: there was no response, or it was not that of a gateway that accepted the lead.
        """
        url = f"{options['url'].rstrip('/')}/webhooks/leads"
        try:
            response = requests.post(
                url, json=payload, headers=_headers(options["secret"]), timeout=_TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as error:
            raise CommandError(f"No response from {url} ({type(error).__name__}). Is the gateway running?") from error
        self._print(f"POST {url} -> {response.status_code} in {response.elapsed.total_seconds() * 1000:.0f} ms")
        self._print(response.text[:1000])
        if response.status_code != 200:
            raise CommandError("The gateway did not accept the lead.")
        return _parse(response)

    def _follow(self, lead: InboundLead, *, seconds: float) -> None:
        """Print the lead's events until it has no next attempt or the time is over."""
        deadline, last_event = time.monotonic() + seconds, 0
        while True:
            lead.refresh_from_db(fields=["status", "rejection_reason", "next_attempt_at"])
            for event in LeadEvent.objects.filter(lead=lead, pk__gt=last_event).order_by("pk"):
                self._print(f"  {event.at:%H:%M:%S.%f}"[:-3] + f"  {_event_text(event)}")
                last_event = event.pk
            if lead.next_attempt_at is None or time.monotonic() > deadline:
                return
            time.sleep(_POLL_INTERVAL_S)

    def _check_result(self, lead: InboundLead, *, expected_rejection: str | None) -> None:
        expected = f"REJECTED ({expected_rejection})" if expected_rejection else "DELIVERED"
        result = f"{lead.status} ({lead.rejection_reason})" if lead.rejection_reason else str(lead.status)
        if result != expected:
            raise CommandError(f"{result}; expected {expected}. {_advice(lead)}")
        self._print(f"{result}, as expected.")


def _payload(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "email": f"test-{secrets.token_hex(6)}@example.com",  # a new address, so that the lead is not a duplicate
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


def _parse(response: requests.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not {"lead_id", "correlation_id"} <= answer.keys():
        raise CommandError("The response is not from Lead Gateway. Another program uses this address.")
    return answer


def _find_lead(answer: dict[str, Any]) -> InboundLead:
    """Return the accepted lead from the database.

    :raises CommandError: the gateway uses another database, or the database is unavailable.
    """
    try:
        return InboundLead.objects.get(pk=answer["lead_id"], correlation_id=answer["correlation_id"])
    except InboundLead.DoesNotExist:
        raise CommandError(
            "The gateway accepted the lead, but it is not in this command's database. "
            "Run the command on the gateway's host, with the same environment."
        ) from None
    except DatabaseError as error:
        raise CommandError(
            f"The gateway accepted the lead, but this command cannot read the database: {error_reason(error)}"
        ) from error


def _event_text(event: LeadEvent) -> str:
    """Return an event in one line, with the codes and parameters of its detail."""
    parts = [event.get_kind_display()]
    if event.to_status:
        parts.append(f"{event.from_status} -> {event.to_status}")
    parts += [
        f"{key}={_plain(event.detail[key])}" for key in _SHOWN_KEYS if event.detail.get(key) not in (None, {}, [])
    ]
    return ", ".join(parts)


def _plain(value: Any) -> str:
    """Return a JSON value in one line; `{"code": "timeout", "seconds": 30}` as `timeout(seconds=30)`."""
    if isinstance(value, list):
        return "+".join(map(_plain, value))
    if not isinstance(value, dict):
        return str(value)
    members = ", ".join(f"{name}={_plain(item)}" for name, item in value.items() if name != "code")
    code = str(value.get("code", ""))
    return f"{code}({members})" if members else code


def _advice(lead: InboundLead) -> str:
    if lead.status == LeadStatus.RECEIVED:
        return "No worker has processed it. Is a worker running? `manage.py doctor` checks all parts."
    if lead.status == LeadStatus.READY:
        return "The delivery is still in progress."
    if lead.status == LeadStatus.FAILED and lead.next_attempt_at:
        return f"The next attempt is at {lead.next_attempt_at:%H:%M:%S} UTC."
    return "See the lead's timeline in the admin."
