"""Compare the records of the senders, the customer's ledger and the gateway's database after a chaos run.

The rules here come from the specification and not from the gateway's code, so that each finds mistakes of the other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.load import Posted, Scenario
from tests.hostile_customer import LedgerRecord

Row = dict[str, Any]

#: The statuses that may follow a status, without a bulk action of an operator.
_MAY_FOLLOW = {
    "RECEIVED": {"REJECTED", "READY"},
    "READY": {"DELIVERED", "FAILED", "PERMANENTLY_FAILED"},
    "FAILED": {"DELIVERED", "FAILED", "PERMANENTLY_FAILED"},
}
#: Outcomes in the ledger when the customer has confirmed the lead.
_CONFIRMED = {"accepted", "duplicate"}
#: Resolution of the times in the ledger.
_TICK = timedelta(milliseconds=1)


@dataclass
class Evidence:
    """The records of each party. Rows are those of the tables in the order of their ids."""

    posted: list[Posted]
    ledger: list[LedgerRecord]
    leads: list[Row]
    attempts: list[Row]
    events: list[Row]
    max_attempts: int

    def arrivals(self) -> Iterator[tuple[float, Posted]]:
        """Yield every lead that the customer has booked, with its time (Unix time)."""
        posted = {lead.payload["email"]: lead for lead in self.posted}
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
    """Whether the customer has the lead after this request."""

    @property
    def answer(self) -> int | None:
        """Return the status that the customer sent, whether or not it arrived, None when it sent none."""
        if self.outcome in _CONFIRMED:
            return 200
        return int(self.outcome.removeprefix("status ")) if self.outcome.startswith("status ") else None


@dataclass(frozen=True)
class Case:
    """One lead with its requests, attempts and events."""

    row: Row
    posted: Posted | None
    requests: list[Request] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)

    @property
    def scenario(self) -> Scenario | None:
        return self.posted.scenario if self.posted else None

    @property
    def accepted(self) -> bool:
        return self.posted is not None and self.posted.accepted is not None

    @property
    def has_arrived(self) -> bool:
        """Return whether the customer has the lead, by the customer's ledger."""
        return any(request.has_it for request in self.requests)

    @property
    def repeated_requests(self) -> int:
        """Return the number of requests that the customer received although it had the lead."""
        return max(0, sum(request.has_it for request in self.requests) - 1)


@dataclass
class Audit:
    """The result of the comparison. `counts` are numbers of leads. Without defects `problems` is empty."""

    counts: Counter[str]
    statuses: Counter[int]
    """Number of responses by HTTP status. Status 0 is a broken connection."""
    problems: list[str]
    longest_wait: float
    """Maximum number of seconds from the response 200 until the customer had the lead."""


def compare(evidence: Evidence) -> Audit:
    """Compare the records of all parties."""
    cases = _cases(evidence)
    problems = [*_unknown_leads(evidence), *_acceptance(evidence)]
    counts = Counter(attempts=len(evidence.attempts), events=len(evidence.events))
    counts["accepted"] = sum(posted.accepted is not None for posted in evidence.posted)
    counts["lost"] = counts["accepted"] - sum(case.accepted for case in cases)  # leads without a row
    for case in cases:
        found = [*_result(case, evidence.max_attempts), *_attempts(case), *_repeated(case), *_events(case)]
        problems += [f"lead {case.row['id']}: {problem}" for problem in found]
        counts.update(_count(case, evidence.max_attempts))
    statuses = Counter(response.status for posted in evidence.posted for response in posted.responses)
    waits = (at - posted.accepted.at for at, posted in evidence.arrivals() if posted.accepted)
    return Audit(counts, statuses, problems, longest_wait=max(waits, default=0.0))


# --- sorting the evidence --------------------------------------------------------------------------------------------


def _cases(evidence: Evidence) -> list[Case]:
    posted = {lead.payload["email"]: lead for lead in evidence.posted}
    requests, attempts, events = defaultdict(list), defaultdict(list), defaultdict(list)
    for record in evidence.ledger:
        requests[record["idempotency_key"]].append(_request(record))
    for event in evidence.events:
        events[event["lead_id"]].append(event)
    resent = {
        (event["lead_id"], event["detail"]["attempt_no"]) for event in evidence.events if event["detail"].get("resent")
    }
    for attempt in evidence.attempts:
        is_resent = (attempt["lead_id"], attempt["attempt_no"]) in resent
        attempts[attempt["lead_id"]].append({**attempt, "resent": is_resent})
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
            "incomplete": case.row["status"] == "FAILED" and case.scenario is Scenario.INCOMPLETE,
            "refused": given_up and case.scenario is Scenario.REFUSED,
            "given_up": given_up and case.scenario is Scenario.DELIVERABLE,
            "given_up_though_taken": given_up and case.has_arrived,
            "lost": case.accepted and any(_result(case, max_attempts)),
            "sent_again": case.repeated_requests > 0,
            "sent_again_unexplained": any(_repeated(case)),
            "died": sum(attempt["finished_at"] is None for attempt in case.attempts),
            "unanswered": sum(attempt["response_status"] is None for attempt in case.attempts),
            "received_again": sum(event["kind"] == "duplicate" for event in case.events),
        }
    )


# --- senders and the gateway -----------------------------------------------------------------------------------------


def _unknown_leads(evidence: Evidence) -> Iterator[str]:
    """Find leads that no sender has posted."""
    known = {row["idempotency_key"] for row in evidence.leads}
    for key in {record["idempotency_key"] for record in evidence.ledger} - known:
        yield f"the customer received {key}, which is the key of no lead"
    posted = {lead.payload["email"]: lead.payload for lead in evidence.posted}
    for row in evidence.leads:
        if posted.get(row["raw_payload"].get("email")) != row["raw_payload"]:
            yield f"lead {row['id']}: no sender posted its payload"


def _acceptance(evidence: Evidence) -> Iterator[str]:
    """Find accepted posts without exactly one lead with the id in the response."""
    ids = defaultdict(list)
    for row in evidence.leads:
        ids[row["raw_payload"].get("email")].append(row["id"])
    for posted in evidence.posted:
        stored, email = ids[posted.payload["email"]], posted.payload["email"]
        if unexpected := {response.status for response in posted.responses} - {0, 200, 503}:
            yield f"{email}: unexpected responses {sorted(unexpected)}"
        if posted.accepted is None:
            yield f"{email}: no post was accepted"
        elif stored != [posted.accepted.lead_id]:
            yield f"{email}: the response names lead {posted.accepted.lead_id}, stored are {stored}"


# --- the customer and the gateway ------------------------------------------------------------------------------------


def _result(case: Case, max_attempts: int) -> Iterator[str]:
    """Find leads whose status does not fit their scenario and the customer's responses."""
    status, scenario = case.row["status"], case.scenario
    if scenario is not None and not _is_expected(case, max_attempts):
        yield f"{scenario}, but {status} after {len(case.attempts)} attempts"
    if status == "DELIVERED" and not case.has_arrived:
        yield "DELIVERED, but the customer does not have it"
    if (case.row["delivered_at"] is not None) != (status == "DELIVERED"):
        yield f"{status}, but delivered_at is {case.row['delivered_at']}"
    if any(attempt["success"] for attempt in case.attempts) != (status == "DELIVERED"):
        yield f"{status}, which contradicts its attempts"
    if case.row["claim_token"] is not None:
        yield f"{status}, but still claimed"


def _is_expected(case: Case, max_attempts: int) -> bool:
    status, scenario = case.row["status"], case.scenario
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
    """Find attempts and requests that one side does not know or knows differently."""
    numbers = [attempt["attempt_no"] for attempt in case.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its attempts are numbered {numbers}"
    if _pair(case.requests, case.attempts) is None:
        known = [(attempt["created_at"], attempt["response_status"]) for attempt in case.attempts]
        received = [(request.at, request.outcome) for request in case.requests]
        yield f"attempts and the customer's ledger contradict each other: {known}, {received}"


def _pair(requests: Sequence[Request], attempts: Sequence[Row]) -> list[Row] | None:
    """Return the attempt of each request in order, None when they cannot be paired.

    An attempt sends a request after its row is written, and its status is the one that the customer sent. If the
    customer closed an idle connection that was used again, it sends a second request, and its event says so; an attempt
    that died has no such event. An attempt without response may have ended before it sent a request.
    """
    if not attempts:
        return None if requests else []
    first, later = attempts[0], attempts[1:]
    status = first["response_status"]
    may_be_resent = first["resent"] or first["finished_at"] is None
    for count in (1, 2) if may_be_resent else (1,):
        sent, others = requests[:count], requests[count:]
        is_answered = len(sent) == count and status in (None, sent[-1].answer)
        if is_answered and first["created_at"] <= sent[0].at + _TICK and (rest := _pair(others, later)) is not None:
            return [*[first] * count, *rest]
    return _pair(requests, later) if status is None else None


def _repeated(case: Case) -> Iterator[str]:
    """Find leads that were sent again although the gateway had received the customer's confirmation.

    A lead may be sent again after an attempt with unknown outcome: a killed worker or a broken connection.
    """
    succeeded = next((attempt["attempt_no"] for attempt in case.attempts if attempt["success"]), None)
    if succeeded is not None and succeeded < len(case.attempts):
        yield f"sent again although attempt {succeeded} had succeeded"
    sent_by = _pair(case.requests, case.attempts) or []
    for request, attempt in zip(case.requests, sent_by, strict=False):
        if request.has_it and attempt is not sent_by[-1] and attempt["response_status"] == 200:
            yield f"sent again although attempt {attempt['attempt_no']} had a response"


# --- the events -----------------------------------------------------------------------------------------------------


def _events(case: Case) -> Iterator[str]:
    """Find events that contradict the row or the attempts."""
    if [event["kind"] for event in case.events[:1]] != ["received"]:
        yield "its first event is not its receipt"
    status = "RECEIVED"
    for event in case.events:
        if event["kind"] != "status":
            continue
        if event["from_status"] != status or event["to_status"] not in _MAY_FOLLOW.get(status, set()):
            yield f"event {event['id']}: {event['from_status']} -> {event['to_status']} after {status}"
        status = event["to_status"]
    if status != case.row["status"]:
        yield f"its row says {case.row['status']}, its events {status}"
    finished = [attempt["attempt_no"] for attempt in case.attempts if attempt["finished_at"] is not None]
    for kind, numbers in (
        ("attempt_started", [attempt["attempt_no"] for attempt in case.attempts]),
        ("attempt_finished", finished),
    ):
        recorded = [event["detail"]["attempt_no"] for event in case.events if event["kind"] == kind]
        if recorded != numbers:
            yield f"{kind} in its events: {recorded}, in its attempts: {numbers}"
