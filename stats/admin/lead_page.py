"""The page of one lead: its status, its timeline, its payloads, the sender's headers and cURL commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, ExpressionWrapper
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from delivery.bulk_actions.selection import eligibility
from delivery.configuration import retry_policy
from delivery.models import BulkActionKind, DeliveryAttempt, DeliveryControl
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.admin import curl, formatting, payload_diff
from stats.admin.bulk_action_form import may_act, preview_url
from stats.admin.personal_data import may_reveal, revealed_until
from stats.api import queries
from stats.masking import Masker
from stats.permissions import sees_personal_data
from stats.text.status_summary import Attempts, is_in_progress, status_summary
from stats.text.timeline import Entry, EventLog, timeline

#: The number of events shown from the beginning and from the end of a long timeline.
EVENTS_PER_END = 100

#: The number of attempts, counted from the last, that are shown with the customer's response. One may have 64 KB.
RESPONSES_SHOWN = 20

#: Seconds between two refreshes of the page while the lead is in progress.
REFRESH_S = 5

#: Longer values are cut in the table of changes; the payloads above it show them in full.
_MAX_VALUE_LENGTH = 120

_MAX_ID_DIGITS = 10


@dataclass(frozen=True)
class View:
    """A request for the page of a lead."""

    request: HttpRequest
    lead: InboundLead
    #: The time before anything was read.
    now: datetime
    revealed_until: datetime | None

    @property
    def masker(self) -> Masker:
        """Return the masker for texts of the lead."""
        return Masker(is_on=not sees_personal_data(self.request.user) and self.revealed_until is None)


def show(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """Return the page of the lead.

    :raises PermissionDenied: the user may not view leads, or sends a change.
    :raises Http404: the lead does not exist.
    """
    if request.method not in ("GET", "HEAD") or not model_admin.has_view_permission(request):
        raise PermissionDenied
    now = timezone.now()
    lead = _find(object_id)
    view = View(request, lead, now, revealed_until(request, lead.pk, now=now) if may_reveal(request) else None)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "original": lead,
        "title": _("Lead {id}").format(id=lead.pk),
        "is_fullwidth": 1,
        **_page(view),
    }
    return TemplateResponse(request, "stats/admin/lead.html", context)


def _find(object_id: str) -> InboundLead:
    is_id = object_id.isascii() and object_id.isdigit() and len(object_id) <= _MAX_ID_DIGITS
    lead = InboundLead.objects.filter(pk=int(object_id)).first() if is_id else None
    if lead is None:
        raise Http404
    return lead


def _page(view: View) -> dict[str, Any]:
    lead, attempts, control = view.lead, queries.attempts_of(view.lead.pk), DeliveryControl.objects.current()
    summary = status_summary(
        lead, attempts, now=view.now, policy=retry_policy(), show_time=formatting.exact_time, control=control
    )
    in_progress = is_in_progress(lead, now=view.now)
    payloads = {name: view.masker.json(payload) for name, payload in queries.payloads(lead).items()}
    until = view.revealed_until
    return {
        "lead": lead,
        "badge": formatting.status_badge(lead.status),
        "summary": formatting.escape_invisible(view.masker.text(summary)),
        "delivery_url": reverse("admin:leads_delivery") if in_progress and control.is_blocked else None,
        "erased_at": formatting.exact_time(lead.erased_at) if lead.erased_at else None,
        "facts": _facts(lead, view.now),
        "actions": _actions(view),
        "is_masked": view.masker.is_on,
        "may_reveal": may_reveal(view.request),
        "revealed_until": formatting.full_time(until, now=view.now) if until else None,
        "entries": _timeline(view, attempts),
        "refresh": REFRESH_S if in_progress else "",
        "refresh_payloads": REFRESH_S if in_progress and lead.status == LeadStatus.RECEIVED else "",
        **_payloads(view, payloads),
        "headers": _headers(view),
        "commands": [] if lead.erased_at else _commands(view, payloads),
    }


# --- status ----------------------------------------------------------------------------------------------------------


def _facts(lead: InboundLead, now: datetime) -> list[tuple[str, str, str]]:
    """Return labels and values; a value with a copy button has the id of its element as third item."""
    duplicates = LeadEvent.objects.filter(lead=lead.pk, kind=EventKind.DUPLICATE).count()
    return [
        (_("Received"), formatting.full_time(lead.received_at, now=now), ""),
        (_("Delivered"), formatting.full_time(lead.delivered_at, now=now), ""),
        (_("Received again"), f"{formatting.number(duplicates)} ×" if duplicates else _("never"), ""),
        *([(_("Source"), lead.source, "")] if lead.source else []),
        (_("Correlation ID"), str(lead.correlation_id), "correlation-id"),
        (_("Idempotency key"), str(lead.idempotency_key), "idempotency-key"),
        (_("Mapping file (SHA-256)"), _short_hash(lead.mapping_sha256), ""),
    ]


def _short_hash(sha256: str | None) -> str:
    return format_html('<code title="{}">{:.12}</code>', sha256, sha256) if sha256 else formatting.NOTHING


def _actions(view: View) -> list[dict[str, str]]:
    """Return the actions that the user can run on the lead in its current status."""
    if not may_act(view.request):
        return []
    return [
        {"label": str(kind.label), "url": f"{preview_url(kind)}?ids={view.lead.pk}"}
        for kind in _eligible_actions(view.lead)
    ]


def _eligible_actions(lead: InboundLead) -> list[BulkActionKind]:
    """Ask the database, so that the same condition applies as for bulk actions."""
    conditions: dict[str, Any] = {
        kind.value: ExpressionWrapper(eligibility(kind, include_delivered=True), BooleanField())
        for kind in BulkActionKind
    }
    row: Any = InboundLead.objects.filter(pk=lead.pk).values_list(*conditions.values()).get()
    return [kind for kind, is_eligible in zip(BulkActionKind, row, strict=True) if is_eligible]


# --- timeline --------------------------------------------------------------------------------------------------------


def _timeline(view: View, attempts: Attempts) -> list[dict[str, Any]]:
    user = view.request.user
    shown = attempts if user.has_perm("delivery.view_deliveryattempt") else ()
    log = _event_log(view.lead.pk) if user.has_perm("leads.view_leadevent") else EventLog(())
    responses = _responses(shown)
    entries = timeline(view.lead, log, shown, now=view.now, policy=retry_policy(), masker=view.masker)
    return [_entry(entry, view, responses) for entry in entries]


def _event_log(lead_id: int) -> EventLog:
    events = LeadEvent.objects.filter(lead=lead_id)
    first = list(events.order_by("pk")[: 2 * EVENTS_PER_END + 1])
    if len(first) <= 2 * EVENTS_PER_END:
        return EventLog(first)
    last = list(events.order_by("-pk")[:EVENTS_PER_END])[::-1]
    return EventLog(first[:EVENTS_PER_END], last, hidden=events.count() - 2 * EVENTS_PER_END)


def _responses(attempts: Attempts) -> dict[int, str | None]:
    """Return the customer's last responses by the primary keys of the attempts."""
    keys = [attempt.pk for attempt in attempts[-RESPONSES_SHOWN:]]
    return dict(DeliveryAttempt.objects.filter(pk__in=keys).values_list("pk", "response_body"))


def _entry(entry: Entry, view: View, responses: dict[int, str | None]) -> dict[str, Any]:
    response = responses.get(entry.attempt.pk) if entry.attempt else None
    return {
        "title": formatting.escape_invisible(entry.title),
        "icon": entry.icon,
        "at": formatting.full_time(entry.at, now=view.now) if entry.at else "",
        "tone": entry.tone,
        "status_change": entry.status_change,
        "label": formatting.badge(entry.label, entry.tone) if entry.label else "",
        "text": formatting.escape_invisible(entry.text),
        "actor": formatting.escape_invisible(entry.actor),
        "attempt": entry.attempt,
        "response": formatting.readable(response, view.masker) if response else "",
        "is_next": entry.is_next,
        "hidden": entry.hidden,
    }


# --- payloads --------------------------------------------------------------------------------------------------------


def _payloads(view: View, payloads: dict[str, Any]) -> dict[str, Any]:
    lead = view.lead
    received, normalized, customer = lead.raw_payload, lead.normalized_payload, lead.customer_payload
    diff = payload_diff.PayloadDiff() if normalized is None else payload_diff.compare(received, normalized)
    customer_marks = payload_diff.marks_for_customer(normalized, customer)
    mapped = LeadEvent.objects.filter(lead=lead.pk, kind=EventKind.MAPPED).order_by("-pk").first()
    omitted, omitted_count = payload_diff.omitted_fields(normalized, customer, mapped.detail if mapped else None)
    return {
        "forms": [
            _form(_("Received"), payloads["raw_payload"], diff.before, lead),
            _form(_("Normalized"), payloads["normalized_payload"], diff.after, lead),
            _form(_("Sent to the customer"), payloads["customer_payload"], customer_marks, lead),
        ],
        "signs": list(payload_diff.SIGNS.values()),
        "is_normalized": normalized is not None,
        "is_mapped": customer is not None,
        "changes": [_change(change, view.masker) for change in diff.changes],
        "more_changes": _more(diff.total, diff.changes),
        "origins": payload_diff.origins(normalized, customer),
        "omitted": [(view.masker.text(name), view.masker.text(reason)) for name, reason in omitted],
        "more_omitted": _more(omitted_count, omitted),
    }


def _form(title: str, payload: Any, marks: Any, lead: InboundLead) -> dict[str, str]:
    if payload is None or lead.erased_at:
        return {"title": title, "missing": _missing(lead)}
    return {"title": title, "block": _marked_block(payload_diff.marked_lines(payload, marks))}


def _missing(lead: InboundLead) -> str:
    """Return why a form of the payload is missing."""
    if lead.erased_at:
        return _("Erased.")
    if lead.status == LeadStatus.REJECTED:
        return _("None: the lead was rejected.")
    if lead.status == LeadStatus.RECEIVED:
        return _("None yet: the lead has not been validated.")
    return _("None.")


def _marked_block(lines: list[tuple[str, str]]) -> SafeString:
    """Return a block of lines with the signs of their marks.

    There may be 20,000 lines, so they are escaped together, and adjacent lines without a mark share one element.
    """
    marks = [mark for mark, _text in lines]
    texts = escape(formatting.escape_invisible("\n".join(text for _mark, text in lines))).split("\n")
    runs = groupby(zip(marks, texts, strict=True), key=itemgetter(0))
    spans = "".join(_spans(mark, [text for _mark, text in run]) for mark, run in runs)
    return format_html('<pre class="gateway-block lead-json" dir="ltr" tabindex="0">{}</pre>', SafeString(spans))


def _spans(mark: str, escaped: list[str]) -> str:
    if not mark:
        text = "\n".join(escaped)
        return f'<span class="lead-line">{text}\n</span>'
    sign, label = payload_diff.SIGNS[mark]
    head = f'<span class="lead-line lead-{mark}"><span class="lead-sign" title="{escape(label)}">{sign}</span>'
    return "".join(f"{head}{text}\n</span>" for text in escaped)


def _change(change: payload_diff.Change, masker: Masker) -> tuple[str, str, str, str]:
    before, after = (_value(masker.json(value, under=change.names)) for value in (change.before, change.after))
    return masker.text(payload_diff.path_text(change.path)), before, after, change.reason


def _value(value: Any) -> str:
    text = formatting.escape_invisible(payload_diff.one_line_json(value))
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"


def _more(count: int, shown: Sequence[Any]) -> str:
    return formatting.number(count - len(shown)) if count > len(shown) else ""


# --- headers and cURL ------------------------------------------------------------------------------------------------


def _headers(view: View) -> list[tuple[str, str]]:
    headers = view.masker.json(view.lead.source_headers)
    rows = headers.items() if isinstance(headers, dict) else [] if headers is None else [("", headers)]
    return [
        (formatting.escape_invisible(str(name)), formatting.escape_invisible(_header(value))) for name, value in rows
    ]


def _header(value: Any) -> str:
    return value if isinstance(value, str) else payload_diff.one_line_json(value)


def _commands(view: View, payloads: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the element id, the title and the text of each command."""
    url = view.request.build_absolute_uri(reverse("lead-webhook"))
    to_gateway = curl.post_to_gateway(url, payloads["raw_payload"])
    commands = [("curl-gateway", _("Sender to gateway"), to_gateway)]
    if (payload := payloads["customer_payload"]) is not None:
        to_customer = curl.post_to_customer(settings.CUSTOMER_API_URL, view.lead, payload)
        commands.append(("curl-customer", _("Gateway to customer"), to_customer))
    return commands
