"""Sample leads with the whole life of each, as the gateway would have written it down: rows for three tables."""

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
from leads.models import EventKind, LeadStatus
from leads.rules import RejectionReason

S = LeadStatus

#: What can become of a lead, and how often of a thousand.
SCENARIOS = {
    "delivered": 783,
    "zip": 130,
    "not_owner": 70,
    "refused": 5,
    "given_up": 4,
    "unmapped": 2,
    "settled": 2,
    "redelivered": 2,
    "outcome_unknown": 2,
}
#: What the last few leads may be in the middle of.
IN_PROGRESS = ("received", "waiting", "waiting", "waiting")
#: Of a thousand leads, how many come twice, and what the customer's first failures are.
TWICE = 20
FAILURES = ("503", "503", "503", "500", "429", "timed out after 30 s", "connection refused")
REFUSALS = ("422", "422", "404", "400", "401")
#: How many attempts it takes until a lead is delivered, by share.
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
_DURATIONS_MS = {"timed out after 30 s": 30_000, "connection refused": 3}
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
    "200": '{"status": "accepted"}',
    "201": '{"status": "created"}',
    "422": '{"errors": [{"field": "phone", "message": "is not a valid number"}]}',
    "401": '{"error": "token expired"}',
    "404": "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>",
}


@dataclass
class LeadHistory:
    """What is written down about one lead: a row, its attempts and its trail, column by column."""

    lead: dict[str, Any]
    at: datetime
    attempts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, kind: EventKind, *, actor: str = "worker", detail: dict[str, Any] | None = None) -> None:
        """Add to the trail what happens now."""
        self.events.append(
            {
                "lead_id": self.lead["id"],
                "at": self.at,
                "kind": kind.value,
                "from_status": None,
                "to_status": None,
                "actor": actor,
                "correlation_id": self.lead["correlation_id"],
                "detail": json.dumps(detail or {}),
            }
        )

    def step(self, to: LeadStatus, *, actor: str = "worker", detail: dict[str, Any] | None = None) -> None:
        """Change the status."""
        self.event(EventKind.STATUS, actor=actor, detail=detail)
        self.events[-1] |= {"from_status": self.lead["status"], "to_status": to.value}
        self.lead |= {"status": to.value, "updated_at": self.at}

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


class Samples:
    """Makes leads that were received one after the other until `now`.

    The same `random` state makes the same leads, relative to `now`.
    """

    def __init__(self, random: Random, *, config: Configuration, now: datetime, days: int, total: int) -> None:
        self.random = random
        self.config = config
        self.now = now
        self.span = timedelta(days=days)
        self.total = total
        self.in_progress = min(total // 20, max(6, total // 1000))

    def lives(self, first_id: int) -> Iterator[LeadHistory]:
        """Yield the leads with their lives, the first received first."""
        fates = self.random.choices(list(SCENARIOS), list(SCENARIOS.values()), k=self.total)
        for number, scenario in enumerate(fates):
            if number >= self.total - self.in_progress:
                scenario = IN_PROGRESS[number % len(IN_PROGRESS)]
            yield self._life(first_id + number, self._received_at(number), scenario)

    def _received_at(self, number: int) -> datetime:
        """Return the time of the lead of that number: more of them come by day than by night."""
        share = (number + self.random.random()) / self.total
        turns, phase = 2 * math.pi * self.span.days, math.pi * self.now.hour / 12
        wave = 0.6 * (math.sin(share * turns + phase) - math.sin(phase)) / turns
        return self.now - self.span * (1 - share - wave)

    def _life(self, lead_id: int, received_at: datetime, scenario: str) -> LeadHistory:
        life = LeadHistory(self._received(lead_id, received_at, scenario), received_at)
        life.event(EventKind.RECEIVED, actor="webhook")
        if self._one_in(1000 / TWICE):
            life.later(self.random.uniform(1, 90))
            life.event(EventKind.DUPLICATE, actor="webhook")
            life.events[-1]["correlation_id"] = self._uuid()
            life.lead["received_again_at"] = life.at
        if scenario != "received":
            life.lead["next_attempt_at"] = None
            life.later(self.random.uniform(0.05, 2))
            getattr(self, f"_{scenario}")(life)
        return life

    # --- what becomes of a lead --------------------------------------------------------------------------------------

    def _zip(self, life: LeadHistory) -> None:
        self._reject(life, RejectionReason.ZIP_NOT_66XXX)

    def _not_owner(self, life: LeadHistory) -> None:
        self._reject(life, RejectionReason.NOT_HOMEOWNER)

    def _reject(self, life: LeadHistory, reason: RejectionReason) -> None:
        life.lead["rejection_reason"] = reason.value
        life.step(S.REJECTED, detail={"reason": reason.value})

    def _delivered(self, life: LeadHistory) -> None:
        self._map(life)
        attempts = self.random.choices(list(ATTEMPTS), list(ATTEMPTS.values()))[0]
        for _ in range(attempts - 1):
            self._fail(life, self.random.choice(FAILURES))
        self._succeed(life)

    def _refused(self, life: LeadHistory) -> None:
        self._map(life)
        answer = self.random.choice(REFUSALS)
        self._attempt(life, answer)
        life.step(S.PERMANENTLY_FAILED, detail={"reason": f"the customer refused it: HTTP {answer}"})

    def _given_up(self, life: LeadHistory) -> None:
        self._map(life)
        for _ in range(self.config.policy.max_attempts - 1):
            self._fail(life, self.random.choice(FAILURES))
        last, most = self.random.choice(FAILURES), self.config.policy.max_attempts
        self._attempt(life, last)
        error = f"HTTP {last}" if last.isdecimal() else last
        life.step(S.PERMANENTLY_FAILED, detail={"reason": f"attempt {most} of {most} failed: {error}"})

    def _unmapped(self, life: LeadHistory) -> None:
        self._map(life)
        life.lead["rejection_reason"] = RejectionReason.MISSING_REQUIRED_FIELD.value
        life.step(S.FAILED, detail={"reason": RejectionReason.MISSING_REQUIRED_FIELD.value, "missing": ["phone"]})

    def _settled(self, life: LeadHistory) -> None:
        self._refused(life)
        life.later(self.random.uniform(600, 90_000))
        life.at = min(life.at, self.now)
        life.lead["resolved_at"] = life.at
        life.event(EventKind.RESOLVED, actor="otto", detail={"reason": "told the sender"})

    def _redelivered(self, life: LeadHistory) -> None:
        self._refused(life)
        life.later(self.random.uniform(600, 90_000))
        life.at = min(life.at, self.now)
        life.lead["uncounted_attempts"] = len(life.attempts)
        life.event(EventKind.REDELIVERED, actor="otto", detail={"reason": "the customer has repaired it"})
        life.step(S.READY, actor="otto")
        self._succeed(life)

    def _outcome_unknown(self, life: LeadHistory) -> None:
        """Let a worker die in the first attempt."""
        self._map(life)
        self._begin_attempt(life)
        life.later(45)
        self._succeed(life)

    def _waiting(self, life: LeadHistory) -> None:
        self._map(life)
        for _ in range(self.random.randint(1, 3)):
            self._fail(life, self.random.choice(FAILURES))
        life.lead["next_attempt_at"] = self.now + timedelta(seconds=self.random.uniform(60, 6 * 3600))

    # --- the steps of it ---------------------------------------------------------------------------------------------

    def _map(self, life: LeadHistory) -> None:
        raw = json.loads(life.lead["raw_payload"])
        normalized = {name: value.strip() if isinstance(value, str) else value for name, value in raw.items()}
        normalized |= {"email": life.lead["search_email"], "phone": life.lead["search_phone"] or ""}
        mapped = map_lead(normalized, mapping=self.config.mapping, product_name=self.config.product_name)
        life.lead |= {
            "normalized_payload": json.dumps(normalized),
            "customer_payload": json.dumps(mapped.payload),
            "mapping_sha256": self.config.mapping.sha256,
        }
        life.step(S.READY)
        names = [attribute["name"] for attribute in mapped.payload["attributes"]]
        detail = {"mapping": self.config.mapping.sha256, "attributes": names, "omitted": mapped.omitted}
        life.event(EventKind.MAPPED, detail=detail)

    def _fail(self, life: LeadHistory, answer: str) -> None:
        """Make an attempt that fails, and wait for the next one."""
        delay = self.config.policy.delay_after(len(life.attempts) + 1).total_seconds()
        self._attempt(life, answer, next_attempt_in_s=delay)
        if life.lead["status"] != S.FAILED:
            life.step(S.FAILED)
        life.later(delay)
        life.at = min(life.at, self.now)

    def _succeed(self, life: LeadHistory) -> None:
        self._attempt(life, self.random.choice(("200", "200", "200", "201")))
        life.lead["delivered_at"] = life.at
        life.step(S.DELIVERED)

    def _begin_attempt(self, life: LeadHistory) -> dict[str, Any]:
        attempt = {
            "lead_id": life.lead["id"],
            "attempt_no": len(life.attempts) + 1,
            "requested_at": life.at,
            "response_status": None,
            "response_body": None,
            "error_message": None,
            "success": False,
            "created_at": life.at,
            "finished_at": None,
            "duration_ms": None,
        }
        life.attempts.append(attempt)
        life.event(EventKind.ATTEMPT_STARTED, detail={"attempt_no": attempt["attempt_no"]})
        return attempt

    def _attempt(self, life: LeadHistory, answer: str, *, next_attempt_in_s: float | None = None) -> None:
        attempt = self._begin_attempt(life)
        status = int(answer) if answer.isdecimal() else None
        duration_ms = self._duration_ms(answer)
        life.later(duration_ms / 1000)
        success = classify_response(status) is ResponseClass.DELIVERED
        error = None if success else f"HTTP {status}" if status else answer
        attempt |= {
            "response_status": status,
            "response_body": None if status is None else _BODIES.get(answer, '{"error": "try again later"}'),
            "error_message": error,
            "success": success,
            "finished_at": life.at,
            "duration_ms": duration_ms,
        }
        life.lead["last_answer"] = answer
        detail = {
            "attempt_no": attempt["attempt_no"],
            "response_status": status,
            "error": error,
            "duration_ms": duration_ms,
            "next_attempt_in_s": next_attempt_in_s,
        }
        life.event(EventKind.ATTEMPT_FINISHED, detail=detail)

    def _duration_ms(self, answer: str) -> int:
        return _DURATIONS_MS.get(answer) or int(self.random.lognormvariate(5, 0.6))

    def _received(self, lead_id: int, received_at: datetime, scenario: str) -> dict[str, Any]:
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
    """Return what the sender posted."""
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    zipcode = random.randrange(1067, 66_000) if scenario == "zip" else random.randrange(66_000, 67_000)
    return {
        "first_name": first,
        "last_name": last,
        "email": f"{_ascii(first)}.{_ascii(last)}.{lead_id}@Example.{random.choice(('com', 'org', 'net'))}",
        "phone": "" if scenario == "unmapped" else _as_people_write(random, phone),
        "zipcode": f"{zipcode:05}",
        "house": {"is_owner": scenario != "not_owner"},
        **{name: random.choice(_OPTIONAL_FIELDS[name]) for name in random.sample(list(_OPTIONAL_FIELDS), 3)},
    }


def _as_people_write(random: Random, phone: str) -> str:
    network, number = phone[3:6], phone[6:]
    forms = (phone, f"0{network} {number}", f"0{network}/{number[:3]} {number[3:]}", f"0049{network}{number}")
    return random.choice(forms)


def _ascii(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isascii() and sign.isalnum())
