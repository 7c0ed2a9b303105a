"""Invented leads with their attempts and events, as rows for the three tables that the gateway would have written."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from delivery.configuration import Configuration
from delivery.mapping import map_lead
from delivery.retry import ResponseClass, classify_response
from leads.audit.recording import given_values
from leads.models import EventKind, LeadStatus
from leads.rules import RejectionReason

S = LeadStatus

#: What happens to a lead, and to how many of a thousand leads.
SCENARIOS = {
    "delivered": 783,
    "zip": 130,
    "not_owner": 70,
    "rejected_by_customer": 5,
    "attempts_exhausted": 4,
    "unmapped": 2,
    "resolved": 2,
    "redelivered": 2,
    "outcome_unknown": 2,
}
#: The scenarios of the newest leads, which are still in progress.
IN_PROGRESS = ("received", "waiting", "waiting", "waiting")
#: Number of duplicates per thousand leads.
DUPLICATES = 20
#: Number of attempts until a lead is delivered, with the share of each in percent.
ATTEMPTS = {1: 71, 2: 15, 3: 7, 4: 4, 5: 3}

_FIRST_NAMES = (
    *("Erika", "Max", "Anna", "Paul", "Sophie", "Jonas", "Lena", "Felix", "Marie", "Leon", "Laura", "Tim", "Julia"),
    *("Jan", "Sarah", "Lukas", "Lisa", "Finn", "Katharina", "Noah", "Hannah", "Ben", "Christine", "Elias", "Monika"),
    *("Luis", "Petra", "Karl", "Sabine", "Heinz", "Ursula", "Peter", "Renate", "Wolfgang", "Helga", "Klaus"),
    *("Ingrid", "Jürgen", "Brigitte", "Günter", "Karin", "Dieter", "Gisela", "Manfred", "Ayşe", "Mehmet", "Élodie"),
    *("Søren", "Zoë", "Björn", "Nadja", "Milan"),
)
_LAST_NAMES = (
    *("Müller", "Schmidt", "Schneider", "Fischer", "Weber", "Meyer", "Wagner", "Becker", "Schulz", "Hoffmann"),
    *("Schäfer", "Koch", "Bauer", "Richter", "Klein", "Wolf", "Schröder", "Neumann", "Schwarz", "Zimmermann"),
    *("Braun", "Krüger", "Hofmann", "Hartmann", "Lange", "Schmitt", "Werner", "Schmitz", "Krause", "Meier"),
    *("Lehmann", "Schmid", "Schulze", "Maier", "Köhler", "Herrmann", "König", "Walter", "Mayer", "Huber", "Kaiser"),
    *("Fuchs", "Peters", "Lang", "Scholz", "Möller", "Weiß", "Jung", "Hahn", "Schubert", "Vogel", "Friedrich"),
    *("Keller", "Günther", "Frank", "Berger", "Winkler", "Roth", "Beck", "Lorenz", "Baumann", "Franke", "Albrecht"),
    *("Schuster", "Simon", "Ludwig", "Böhm", "Winter", "Kraus", "Martin", "Schumacher", "Krämer", "Vogt", "Stein"),
    *("Jäger", "Otto", "Sommer", "Groß", "Seidel", "Heinrich", "Brandt", "Haas", "Schreiber", "Graf", "Schulte"),
    *("Dietrich", "Ziegler", "Kuhn", "Kühn", "Pohl", "Engel", "Horn", "Busch", "Bergmann", "Thomas", "Voigt"),
    *("Sauer", "Arnold", "Wolff", "Pfeiffer", "Mustermann", "Müller-Lüdenscheid", "Özdemir", "O'Neill", "Nowak"),
    *("Kowalski", "Lefèvre"),
)
_NETWORKS = ("151", "152", "157", "159", "160", "170", "171", "175", "176", "178")
_AGENTS = ("FormTool/3.2", "LeadPartner-Export/1.9", "curl/8.5.0", "python-requests/2.32.3")
_OPTIONAL_FIELDS: dict[str, tuple[Any, ...]] = {
    "solar_energy_consumption": ("3500", "4200", "5000", 6100),
    "solar_monthly_electricity_bill": (88, 120.5, "142,50"),
    "solar_offer_type": ("Kaufen", "Mieten", "Beides interessant", " kaufen "),
    "solar_power_storage": ("Ja", "Nein", "Noch nicht sicher", "vielleicht"),
    "solar_roof_type": ("Satteldach", "Flachdach", "Walmdach", "Reetdach"),
    "solar_area": ("60", 45, "viel"),
    "campaign": ("spring", "autumn"),
}

_BODIES = {
    200: '{"status": "accepted"}',
    201: '{"status": "created"}',
    422: '{"errors": [{"field": "phone", "message": "is not a valid number"}]}',
    401: '{"error": "token expired"}',
    404: "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>",
}


@dataclass(frozen=True)
class Result:
    """The result of an attempt: a status, or the reason why there was no response.

    `message` is the sentence of delivery_attempt.error_message, `error` the reason code with its parameters.
    """

    status: int | None
    message: str | None = None
    error: dict[str, Any] | None = None
    duration_ms: int | None = None

    @property
    def last_answer(self) -> str:
        """Return the value of inbound_lead.last_answer."""
        return str(self.status) if self.status else str((self.error or {})["code"])


def _http_error(status: int) -> Result:
    return Result(status, f"HTTP {status}", {"code": "http_status", "status": status})


SUCCESSES = (Result(200), Result(200), Result(200), Result(201))
FAILURES = (
    *(_http_error(503), _http_error(503), _http_error(503), _http_error(500), _http_error(429)),
    Result(None, "timed out after 30 s", {"code": "timeout", "seconds": 30}, duration_ms=30_000),
    Result(None, "connection refused", {"code": "connection_refused"}, duration_ms=3),
)
REJECTIONS = tuple(_http_error(status) for status in (422, 422, 404, 400, 401))


@dataclass
class LeadHistory:
    """The rows of one lead: the lead itself, its attempts and its events. `at` is the time of the next event."""

    lead: dict[str, Any]
    at: datetime
    attempts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, kind: EventKind, *, actor: str = "worker", detail: dict[str, Any] | None = None) -> None:
        """Append an event."""
        self.events.append(
            {
                "lead_id": self.lead["id"],
                "at": self.at,
                "kind": kind.value,
                "from_status": None,
                "to_status": None,
                "actor": actor,
                "correlation_id": None,
                "detail": json.dumps(given_values(detail)),
            }
        )

    def change_status(self, to: LeadStatus, *, actor: str = "worker", detail: dict[str, Any] | None = None) -> None:
        """Change the status and append the event for it."""
        self.event(EventKind.STATUS, actor=actor, detail=detail)
        self.events[-1] |= {"from_status": self.lead["status"], "to_status": to.value}
        self.lead |= {"status": to.value, "updated_at": self.at}

    def wait(self, seconds: float) -> None:
        """Move the time of the next event."""
        self.at += timedelta(seconds=seconds)


class SampleData:
    """Generates leads that were received one after the other until `now`, over a number of days.

    The same `random` state generates the same leads, relative to `now`.
    """

    def __init__(self, random: Random, *, config: Configuration, now: datetime, days: int, total: int) -> None:
        self.random = random
        self.config = config
        self.now = now
        self.span = timedelta(days=days)
        self.total = total
        self.in_progress = min(total // 20, max(6, total // 1000))

    def lead_histories(self, first_id: int) -> Iterator[LeadHistory]:
        """Yield the history of each lead, in the order in which the leads were received."""
        scenarios = self.random.choices(list(SCENARIOS), list(SCENARIOS.values()), k=self.total)
        for number, scenario in enumerate(scenarios):
            if number >= self.total - self.in_progress:
                scenario = IN_PROGRESS[number % len(IN_PROGRESS)]
            yield self._history(first_id + number, self._received_at(number), scenario)

    def _received_at(self, number: int) -> datetime:
        """Return when the lead with this number was received. More leads arrive by day than by night."""
        share = (number + self.random.random()) / self.total
        days_in_radians, phase = 2 * math.pi * self.span.days, math.pi * self.now.hour / 12
        wave = 0.6 * (math.sin(share * days_in_radians + phase) - math.sin(phase)) / days_in_radians
        return self.now - self.span * (1 - share - wave)

    def _history(self, lead_id: int, received_at: datetime, scenario: str) -> LeadHistory:
        history = LeadHistory(self._lead(lead_id, received_at, scenario), received_at)
        history.event(EventKind.RECEIVED, actor="webhook")
        history.events[-1]["correlation_id"] = history.lead["correlation_id"]
        if self._one_in(1000 / DUPLICATES):
            history.wait(self.random.uniform(1, 90))
            history.event(EventKind.DUPLICATE, actor="webhook")
            history.events[-1]["correlation_id"] = self._uuid()
            history.lead["received_again_at"] = history.at
        if scenario != "received":
            history.lead["next_attempt_at"] = None
            history.wait(self.random.uniform(0.05, 2))
            getattr(self, f"_{scenario}")(history)
        return history

    # --- scenarios ---------------------------------------------------------------------------------------------------

    def _zip(self, history: LeadHistory) -> None:
        self._reject(history, RejectionReason.ZIP_NOT_66XXX)

    def _not_owner(self, history: LeadHistory) -> None:
        self._reject(history, RejectionReason.NOT_HOMEOWNER)

    def _reject(self, history: LeadHistory, reason: RejectionReason) -> None:
        history.lead["rejection_reason"] = reason.value
        history.change_status(S.REJECTED, detail={"reason": reason.value})

    def _delivered(self, history: LeadHistory) -> None:
        self._map(history)
        attempts = self.random.choices(list(ATTEMPTS), list(ATTEMPTS.values()))[0]
        for _ in range(attempts - 1):
            self._fail(history, self.random.choice(FAILURES))
        self._succeed(history)

    def _rejected_by_customer(self, history: LeadHistory) -> None:
        self._map(history)
        result = self.random.choice(REJECTIONS)
        self._attempt(history, result)
        detail = {"reason": {"code": "rejected_by_customer", "error": result.error}}
        history.change_status(S.PERMANENTLY_FAILED, detail=detail)

    def _attempts_exhausted(self, history: LeadHistory) -> None:
        self._map(history)
        attempts = self.config.policy.max_attempts
        for _ in range(attempts - 1):
            self._fail(history, self.random.choice(FAILURES))
        result = self.random.choice(FAILURES)
        self._attempt(history, result)
        detail = {"reason": {"code": "attempts_exhausted", "attempts": attempts, "error": result.error}}
        history.change_status(S.PERMANENTLY_FAILED, detail=detail)

    def _unmapped(self, history: LeadHistory) -> None:
        self._map(history)
        history.lead["rejection_reason"] = RejectionReason.MISSING_REQUIRED_FIELD.value
        history.change_status(
            S.FAILED, detail={"reason": RejectionReason.MISSING_REQUIRED_FIELD.value, "missing": ["phone"]}
        )

    def _resolved(self, history: LeadHistory) -> None:
        self._rejected_by_customer(history)
        history.wait(self.random.uniform(600, 90_000))
        history.at = min(history.at, self.now)
        history.lead["resolved_at"] = history.at
        history.event(EventKind.RESOLVED, actor="otto", detail={"reason": "sender informed"})

    def _redelivered(self, history: LeadHistory) -> None:
        self._rejected_by_customer(history)
        history.wait(self.random.uniform(600, 90_000))
        history.at = min(history.at, self.now)
        history.lead["uncounted_attempts"] = len(history.attempts)
        history.event(EventKind.REDELIVERED, actor="otto", detail={"reason": "customer fixed the problem"})
        history.change_status(S.READY, actor="otto")
        self._succeed(history)

    def _outcome_unknown(self, history: LeadHistory) -> None:
        """The worker was killed during the first attempt."""
        self._map(history)
        self._begin_attempt(history)
        history.wait(45)
        self._succeed(history)

    def _waiting(self, history: LeadHistory) -> None:
        self._map(history)
        for _ in range(self.random.randint(1, 3)):
            self._fail(history, self.random.choice(FAILURES))
        history.lead["next_attempt_at"] = self.now + timedelta(seconds=self.random.uniform(60, 6 * 3600))

    # --- steps -------------------------------------------------------------------------------------------------------

    def _map(self, history: LeadHistory) -> None:
        raw = json.loads(history.lead["raw_payload"])
        normalized = {name: value.strip() if isinstance(value, str) else value for name, value in raw.items()}
        normalized |= {"email": history.lead["search_email"], "phone": history.lead["search_phone"] or ""}
        mapped = map_lead(normalized, mapping=self.config.mapping, product_name=self.config.product_name)
        history.lead |= {
            "normalized_payload": json.dumps(normalized),
            "customer_payload": json.dumps(mapped.payload),
            "mapping_sha256": self.config.mapping.sha256,
        }
        history.change_status(S.READY)
        names = [attribute["name"] for attribute in mapped.payload["attributes"]]
        detail = {"mapping": self.config.mapping.sha256, "attributes": names, "omitted": mapped.omitted}
        history.event(EventKind.MAPPED, detail=detail)

    def _fail(self, history: LeadHistory, result: Result) -> None:
        """Make an attempt that fails, and wait until the next one is due."""
        delay = self.config.policy.delay_after(len(history.attempts) + 1).total_seconds()
        self._attempt(history, result, next_attempt_in_s=delay)
        if history.lead["status"] != S.FAILED:
            history.change_status(S.FAILED)
        history.wait(delay)
        history.at = min(history.at, self.now)

    def _succeed(self, history: LeadHistory) -> None:
        self._attempt(history, self.random.choice(SUCCESSES))
        history.lead["delivered_at"] = history.at
        history.change_status(S.DELIVERED)

    def _begin_attempt(self, history: LeadHistory) -> dict[str, Any]:
        attempt = {
            "lead_id": history.lead["id"],
            "attempt_no": len(history.attempts) + 1,
            "requested_at": history.at,
            "response_status": None,
            "response_body": None,
            "error_message": None,
            "error": None,
            "success": False,
            "created_at": history.at,
            "finished_at": None,
            "duration_ms": None,
        }
        history.attempts.append(attempt)
        history.event(EventKind.ATTEMPT_STARTED, detail={"attempt_no": attempt["attempt_no"]})
        return attempt

    def _attempt(self, history: LeadHistory, result: Result, *, next_attempt_in_s: float | None = None) -> None:
        attempt = self._begin_attempt(history)
        duration_ms = result.duration_ms or int(self.random.lognormvariate(5, 0.6))
        history.wait(duration_ms / 1000)
        attempt |= {
            "response_status": result.status,
            "response_body": result.status and _BODIES.get(result.status, '{"error": "try again later"}'),
            "error_message": result.message,
            "error": result.error and json.dumps(result.error),
            "success": classify_response(result.status) is ResponseClass.DELIVERED,
            "finished_at": history.at,
            "duration_ms": duration_ms,
        }
        history.lead["last_answer"] = result.last_answer
        detail = {
            "attempt_no": attempt["attempt_no"],
            "response_status": result.status,
            "error": result.error,
            "duration_ms": duration_ms,
            "next_attempt_in_s": next_attempt_in_s,
        }
        history.event(EventKind.ATTEMPT_FINISHED, detail=detail)

    def _lead(self, lead_id: int, received_at: datetime, scenario: str) -> dict[str, Any]:
        random = self.random
        phone = f"+49{random.choice(_NETWORKS)}{random.randrange(10_000_000, 100_000_000)}"
        payload = _payload(random, lead_id, scenario, phone)
        return {
            "id": lead_id,
            "received_at": received_at,
            "raw_payload": json.dumps(payload),
            "source_headers": json.dumps({"Content-Type": "application/json", "User-Agent": random.choice(_AGENTS)}),
            "status": S.RECEIVED.value,
            "rejection_reason": None,
            "normalized_payload": None,
            "customer_payload": None,
            "payload_hash": f"{random.getrandbits(256):064x}",
            "created_at": received_at,
            "updated_at": received_at,
            "correlation_id": self._uuid(),
            "idempotency_key": self._uuid(),
            "next_attempt_at": received_at,
            "uncounted_attempts": 0,
            "mapping_sha256": None,
            "delivered_at": None,
            "last_answer": None,
            "received_again_at": None,
            "resolved_at": None,
            "search_email": payload["email"].lower(),
            "search_phone": phone if payload["phone"] else None,
            "search_zipcode": payload["zipcode"],
            "search_name": f"{payload['first_name']} {payload['last_name']}".lower(),
        }

    def _uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _one_in(self, number: float) -> bool:
        return self.random.random() * number < 1


def _payload(random: Random, lead_id: int, scenario: str, phone: str) -> dict[str, Any]:
    """Return the payload that the sender posted."""
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    zipcode = random.randrange(1067, 66_000) if scenario == "zip" else random.randrange(66_000, 67_000)
    return {
        "first_name": first,
        "last_name": last,
        "email": f"{_ascii(first)}.{_ascii(last)}.{lead_id}@Example.{random.choice(('com', 'org', 'net'))}",
        "phone": "" if scenario == "unmapped" else _as_typed(random, phone),
        "zipcode": f"{zipcode:05}",
        "house": {"is_owner": scenario != "not_owner"},
        **{name: random.choice(_OPTIONAL_FIELDS[name]) for name in random.sample(list(_OPTIONAL_FIELDS), 3)},
    }


def _as_typed(random: Random, phone: str) -> str:
    network, number = phone[3:6], phone[6:]
    forms = (phone, f"0{network} {number}", f"0{network}/{number[:3]} {number[3:]}", f"0049{network}{number}")
    return random.choice(forms)


def _ascii(name: str) -> str:
    return "".join(character for character in name.lower() if character.isascii() and character.isalnum())
