"""Compares what three parties know when all is over: the senders, the customer's ledger, and the gateway's database.

It knows the gateway's rules from the README, not from its code, so that a mistake of the one is found by the other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.load import Posted, Scenario
from tests.hostile_customer import LedgerRecord

Row = dict[str, Any]

#: README, "What it does": what may follow a status, without an order of an operator.
_MAY_FOLLOW = {
    "RECEIVED": {"REJECTED", "READY"},
    "READY": {"DELIVERED", "FAILED", "PERMANENTLY_FAILED"},
    "FAILED": {"DELIVERED", "FAILED", "PERMANENTLY_FAILED"},
}
#: What is in the ledger when the customer answered that it has taken the lead.
_ANSWERED_YES = {"accepted", "duplicate"}
#: The ledger tells time in whole milliseconds.
_TICK = timedelta(milliseconds=1)


@dataclass
class Evidence:
    """What each party has written down. Rows are those of the tables, in the order of their ids."""

    posted: list[Posted]
    ledger: list[LedgerRecord]
    leads: list[Row]
    attempts: list[Row]
    events: list[Row]
    max_attempts: int

    def arrivals(self) -> Iterator[tuple[float, Posted]]:
        """Yield every lead that the customer has booked, with the moment (Unix time)."""
        posted = {one.payload["email"]: one for one in self.posted}
        leads = {row["idempotency_key"]: posted.get(row["raw_payload"].get("email")) for row in self.leads}
        for record in self.ledger:
            lead = leads.get(record["idempotency_key"])
            if record["booked"] and lead is not None:
                yield datetime.fromisoformat(record["time"]).timestamp(), lead


@dataclass(frozen=True)
class Request:
    """A request in the customer's ledger."""

    at: datetime
    outcome: str
    has_it: bool
    """The customer has the lead now: it booked it with this request, or had before."""

    @property
    def answer(self) -> int | None:
        """The status that the customer sent, whether or not it arrived; None: it sent none."""
        if self.outcome in _ANSWERED_YES:
            return 200
        return int(self.outcome.removeprefix("status ")) if self.outcome.startswith("status ") else None


@dataclass(frozen=True)
class Case:
    """One lead with all that belongs to it."""

    row: Row
    posted: Posted | None
    requests: list[Request] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return self.posted is not None and self.posted.accepted is not None

    @property
    def has_arrived(self) -> bool:
        """Tell whether the customer has it, by the customer's own ledger."""
        return any(request.has_it for request in self.requests)

    @property
    def times_too_often(self) -> int:
        """How often the customer received it though it had it already, whatever it answered then."""
        return max(0, sum(request.has_it for request in self.requests) - 1)


@dataclass
class Audit:
    """What was found. `problems` is empty when every promise was kept; the counts are leads."""

    counts: Counter[str]
    statuses: Counter[int]
    """What senders were told, by HTTP status; 0: the connection broke."""
    problems: list[str]
    longest_wait: float
    """Seconds from the answer 200 until the customer had the lead, of the one that waited longest."""


def compare(evidence: Evidence) -> Audit:
    """Compare what all parties know."""
    cases = _cases(evidence)
    problems = [*_strangers(evidence), *_acceptance(evidence)]
    counts = Counter(attempts=len(evidence.attempts), events=len(evidence.events))
    counts["accepted"] = sum(posted.accepted is not None for posted in evidence.posted)
    counts["lost"] = counts["accepted"] - sum(case.accepted for case in cases)  # no row at all
    for case in cases:
        found = [*_ending(case, evidence.max_attempts), *_attempts(case), *_receipts(case), *_trail(case)]
        problems += [f"lead {case.row['id']}: {problem}" for problem in found]
        counts.update(_count(case, evidence.max_attempts))
    told = Counter(told.status for posted in evidence.posted for told in posted.told)
    waits = (at - posted.accepted.at for at, posted in evidence.arrivals() if posted.accepted)
    return Audit(counts, told, problems, longest_wait=max(waits, default=0.0))


# --- sorting the evidence --------------------------------------------------------------------------------------------


def _cases(evidence: Evidence) -> list[Case]:
    posted = {one.payload["email"]: one for one in evidence.posted}
    requests, attempts, events = defaultdict(list), defaultdict(list), defaultdict(list)
    for record in evidence.ledger:
        requests[record["idempotency_key"]].append(_request(record))
    for attempt in evidence.attempts:
        attempts[attempt["lead_id"]].append(attempt)
    for event in evidence.events:
        events[event["lead_id"]].append(event)
    return [
        Case(
            row=row,
            posted=posted.get(row["raw_payload"].get("email")),
            requests=requests[row["idempotency_key"]],
            attempts=attempts[row["id"]],
            events=events[row["id"]],
        )
        for row in evidence.leads
    ]


def _request(record: LedgerRecord) -> Request:
    at = datetime.fromisoformat(record["time"])
    return Request(at, record["outcome"], has_it=record["booked"] or record["duplicate"])


def _count(case: Case, max_attempts: int) -> Counter[str]:
    given_up = case.row["status"] == "PERMANENTLY_FAILED"
    return Counter(
        {
            "delivered": case.row["status"] == "DELIVERED" and case.has_arrived,
            "rejected": case.row["status"] == "REJECTED",
            "incomplete": case.row["status"] == "FAILED" and _fate(case) is Scenario.INCOMPLETE,
            "refused": given_up and _fate(case) is Scenario.REFUSED,
            "given_up": given_up and _fate(case) is Scenario.DELIVERABLE,
            "given_up_though_taken": given_up and case.has_arrived,
            "lost": case.accepted and any(_ending(case, max_attempts)),
            "sent_again": case.times_too_often > 0,
            "sent_again_unexplained": any(_receipts(case)),
            "died": sum(attempt["finished_at"] is None for attempt in case.attempts),
            "unanswered": sum(attempt["response_status"] is None for attempt in case.attempts),
            "received_again": sum(event["kind"] == "duplicate" for event in case.events),
        }
    )


def _fate(case: Case) -> Scenario | None:
    return case.posted.scenario if case.posted else None


# --- senders and the gateway -----------------------------------------------------------------------------------------


def _strangers(evidence: Evidence) -> Iterator[str]:
    """Find what nobody sent."""
    known = {row["idempotency_key"] for row in evidence.leads}
    for key in {record["idempotency_key"] for record in evidence.ledger} - known:
        yield f"the customer received {key}, which is no lead's key"
    posted = {one.payload["email"]: one.payload for one in evidence.posted}
    for row in evidence.leads:
        if posted.get(row["raw_payload"].get("email")) != row["raw_payload"]:
            yield f"lead {row['id']}: nobody posted this"


def _acceptance(evidence: Evidence) -> Iterator[str]:
    """Find whoever was told 200 without there being exactly the lead that was named."""
    ids = defaultdict(list)
    for row in evidence.leads:
        ids[row["raw_payload"].get("email")].append(row["id"])
    for posted in evidence.posted:
        stored, email = ids[posted.payload["email"]], posted.payload["email"]
        if odd := {told.status for told in posted.told} - {0, 200, 503}:
            yield f"{email}: its sender was told {sorted(odd)}"
        if posted.accepted is None:
            yield f"{email}: its sender was never told 200"
        elif stored != [posted.accepted.lead_id]:
            yield f"{email}: its sender was told {posted.accepted.lead_id}, stored are {stored}"


# --- the customer and the gateway ------------------------------------------------------------------------------------


def _ending(case: Case, max_attempts: int) -> Iterator[str]:
    """Find what has not come to the end that its scenario and the customer's answers demand."""
    status, scenario = case.row["status"], _fate(case)
    if scenario is not None and not _is_right_end(case, max_attempts):
        yield f"{scenario}, but {status} after {len(case.attempts)} attempts"
    if status == "DELIVERED" and not case.has_arrived:
        yield "DELIVERED, but the customer does not have it"
    if (case.row["delivered_at"] is not None) != (status == "DELIVERED"):
        yield f"{status}, but delivered_at is {case.row['delivered_at']}"
    if any(attempt["success"] for attempt in case.attempts) != (status == "DELIVERED"):
        yield f"{status}, but its attempts say otherwise"
    if case.row["claim_token"] is not None:
        yield f"{status}, but still claimed"


def _is_right_end(case: Case, max_attempts: int) -> bool:
    status, scenario = case.row["status"], _fate(case)
    if scenario is Scenario.REJECTED:
        return status == "REJECTED" and not case.attempts
    if scenario is Scenario.INCOMPLETE:
        return status == "FAILED" and case.row["next_attempt_at"] is None and not case.attempts
    if status == "PERMANENTLY_FAILED":
        return _is_exhausted(case, max_attempts) or (scenario is Scenario.REFUSED and _was_refused(case))
    return status == "DELIVERED" and scenario is Scenario.DELIVERABLE


def _was_refused(case: Case) -> bool:
    return bool(case.attempts) and case.attempts[-1]["response_status"] == 422


def _is_exhausted(case: Case, max_attempts: int) -> bool:
    return len(case.attempts) - case.row["uncounted_attempts"] >= max_attempts


def _attempts(case: Case) -> Iterator[str]:
    """Find attempts and requests of which one side knows nothing, or something else."""
    numbers = [attempt["attempt_no"] for attempt in case.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its attempts are numbered {numbers}"
    if _pair(case.requests, case.attempts) is None:
        known = [(attempt["created_at"], attempt["response_status"]) for attempt in case.attempts]
        received = [(request.at, request.outcome) for request in case.requests]
        yield f"attempts and the customer's ledger do not fit: {known}, {received}"


def _pair(requests: Sequence[Request], attempts: Sequence[Row]) -> list[Row] | None:
    """Return the attempt that each request belongs to, in order; None when there is no way to pair them.

    An attempt sends one request at most, after its row is written, and has no other answer than the customer gave.
    Without an answer it may have died, or been timed out, before anything was sent.
    """
    if not attempts:
        return None if requests else []
    first, later = attempts[0], attempts[1:]
    status = first["response_status"]
    if requests and first["created_at"] <= requests[0].at + _TICK and status in (None, requests[0].answer):
        rest = _pair(requests[1:], later)
        if rest is not None:
            return [first, *rest]
    return _pair(requests, later) if status is None else None


def _receipts(case: Case) -> Iterator[str]:
    """Find what the customer received again after it had said yes, and the gateway had heard it.

    A lead may go out again after an attempt whose outcome is not known: the worker died, or the connection broke.
    """
    heard = next((attempt["attempt_no"] for attempt in case.attempts if attempt["success"]), None)
    if heard is not None and heard < len(case.attempts):
        yield f"sent again though attempt {heard} had succeeded"
    sent_by = _pair(case.requests, case.attempts) or []
    for request, attempt in zip(case.requests, sent_by, strict=False):
        if request.has_it and attempt is not sent_by[-1] and attempt["response_status"] == 200:
            yield f"sent again though attempt {attempt['attempt_no']} was answered"


# --- the trail -------------------------------------------------------------------------------------------------------


def _trail(case: Case) -> Iterator[str]:
    """Find a trail that does not tell the same as the row and the attempts."""
    if [event["kind"] for event in case.events[:1]] != ["received"]:
        yield "its trail does not begin with its receipt"
    status = "RECEIVED"
    for event in case.events:
        if event["kind"] != "status":
            continue
        if event["from_status"] != status or event["to_status"] not in _MAY_FOLLOW.get(status, set()):
            yield f"event {event['id']}: {event['from_status']} -> {event['to_status']} after {status}"
        status = event["to_status"]
    if status != case.row["status"]:
        yield f"its row says {case.row['status']}, its trail {status}"
    finished = [attempt["attempt_no"] for attempt in case.attempts if attempt["finished_at"] is not None]
    for kind, numbers in (
        ("attempt_started", [attempt["attempt_no"] for attempt in case.attempts]),
        ("attempt_finished", finished),
    ):
        told = [event["detail"]["attempt_no"] for event in case.events if event["kind"] == kind]
        if told != numbers:
            yield f"{kind} in its trail: {told}, in its attempts: {numbers}"
