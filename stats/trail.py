"""What happened to a lead, in words: a pure function of an event. `detail` is read as whoever wrote it left it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from leads.models import EventKind, LeadEvent
from leads.moments import span

Detail = dict[str, Any]


def in_words(event: LeadEvent) -> str:
    """Return what happened, such as `attempt 2 ended: HTTP 503 (120 ms); next in 1 min`; no personal data."""
    detail = event.detail if isinstance(event.detail, dict) else {}
    if event.kind == EventKind.STATUS:
        return f"{event.from_status} -> {event.to_status}{_tail(': ', detail.get('reason'))}{_missing(detail)}"
    if event.kind in _ORDERS:
        return f"{_ORDERS[event.kind]} by {event.actor}{_tail(': ', detail.get('reason'))}"
    words = _WORDS.get(event.kind)
    return words(detail) if words else str(event.kind)


def _tail(joint: str, value: Any) -> str:
    return "" if value in (None, "", [], {}) else f"{joint}{value}"


def _missing(detail: Detail) -> str:
    names = detail.get("missing")
    return f" ({', '.join(map(str, names))})" if isinstance(names, list) and names else ""


def _received(detail: Detail) -> str:
    notes = detail.get("notes")
    return "received" + _tail("; ", "; ".join(map(str, notes)) if isinstance(notes, list) else notes)


def _mapped(detail: Detail) -> str:
    names, omitted = detail.get("attributes"), detail.get("omitted")
    sent = ", ".join(map(str, names)) if isinstance(names, list) and names else "no attributes"
    left = [f"{name} ({reason})" for name, reason in omitted.items()] if isinstance(omitted, dict) else []
    return f"mapped for the customer: {sent}{_tail('; left out: ', ', '.join(left))}"


def _finished(detail: Detail) -> str:
    status = detail.get("response_status")
    outcome = f"HTTP {status}" if status is not None else detail.get("error") or "no answer"
    wait = detail.get("next_attempt_in_s")
    following = span(timedelta(seconds=wait)) if isinstance(wait, int | float) else None
    return f"{_attempt(detail)} ended: {outcome}{_duration(detail)}{_tail('; next in ', following)}"


def _duration(detail: Detail) -> str:
    took = detail.get("duration_ms")
    return "" if took is None else f" ({took} ms)"


def _attempt(detail: Detail) -> str:
    return f"attempt {detail.get('attempt_no', '?')}"


_WORDS: dict[str, Callable[[Detail], str]] = {
    EventKind.RECEIVED: _received,
    EventKind.DUPLICATE: lambda _: "received again; recognised, not delivered twice",
    EventKind.MAPPED: _mapped,
    EventKind.ATTEMPT_STARTED: lambda detail: f"{_attempt(detail)} started",
    EventKind.ATTEMPT_FINISHED: _finished,
}

_ORDERS: dict[str, str] = {
    EventKind.REDELIVERED: "redelivery ordered",
    EventKind.REPROCESSED: "reprocessing ordered",
}
