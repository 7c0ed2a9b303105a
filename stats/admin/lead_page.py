"""The page of one lead: where it stands, what happened to it, and what was made of it."""

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
from django.utils.formats import number_format
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from delivery.bulk_actions.selection import eligibility
from delivery.configuration import retry_policy
from delivery.models import BulkActionKind, DeliveryAttempt, DeliveryControl
from leads.models import EventKind, InboundLead, LeadEvent, LeadStatus
from stats.admin import curl, formatting, payload_diff
from stats.admin.personal_data import may_reveal, revealed_until
from stats.api import queries
from stats.masking import Cover
from stats.permissions import sees_personal_data
from stats.text.status_summary import Attempts, is_in_progress, standing
from stats.text.timeline import Entry, Trail, timeline

#: Of a long trail so many events are shown from its beginning, and so many from its end.
ENDS = 100

#: So many attempts are shown with the customer's answer, the last ones; each may have 64 KB.
ANSWERS = 20

#: How often the page looks again while something is under way.
REFRESH_S = 5

#: Longer values are cut where a row tells of them; the payloads beside it show them whole.
_LONGEST_VALUE = 120

_LONGEST_ID = 10


@dataclass(frozen=True)
class Look:
    """One look at a lead: who looks, when, and how much of it they may see."""

    request: HttpRequest
    lead: InboundLead
    #: Taken before anything was read.
    now: datetime
    revealed_until: datetime | None

    @property
    def cover(self) -> Cover:
        """Return what may be seen of the lead's texts."""
        return Cover(is_on=not sees_personal_data(self.request.user) and self.revealed_until is None)


def show(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """Answer with the page of the lead.

    :raises PermissionDenied: it is not to be seen, or somebody tries to change it.
    :raises Http404: there is no such lead.
    """
    if request.method not in ("GET", "HEAD") or not model_admin.has_view_permission(request):
        raise PermissionDenied
    now = timezone.now()
    lead = _find(object_id)
    until = revealed_until(request, lead.pk, now=now) if may_reveal(request) else None
    look = Look(request, lead, now, until)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "original": lead,
        "title": _("Lead {id}").format(id=lead.pk),
        "is_fullwidth": 1,
        **_page(look),
    }
    return TemplateResponse(request, "stats/admin/lead.html", context)


def _find(object_id: str) -> InboundLead:
    is_id = object_id.isascii() and object_id.isdigit() and len(object_id) <= _LONGEST_ID
    lead = InboundLead.objects.filter(pk=int(object_id)).first() if is_id else None
    if lead is None:
        raise Http404
    return lead


def _page(look: Look) -> dict[str, Any]:
    lead, attempts, policy = look.lead, queries.attempts_of(look.lead.pk), retry_policy()
    gate = DeliveryControl.objects.current()
    sentence = standing(lead, attempts, now=look.now, policy=policy, show_time=formatting.exact, gate=gate)
    in_progress = is_in_progress(lead, now=look.now)
    seen = {name: look.cover.json(payload) for name, payload in queries.payloads(lead).items()}
    return {
        "lead": lead,
        "badge": formatting.status_badge(lead.status),
        "sentence": formatting.visible(look.cover.text(sentence)),
        "way_out": reverse("admin:leads_way_out") if in_progress and gate.is_blocked else None,
        "erased_at": formatting.exact(lead.erased_at) if lead.erased_at else None,
        "facts": _facts(lead, look.now),
        "actions": _actions(look),
        "is_masked": look.cover.is_on,
        "may_reveal": may_reveal(look.request),
        "revealed_until": formatting.moment(look.revealed_until, now=look.now) if look.revealed_until else None,
        "entries": _entries(look, attempts),
        "refresh": REFRESH_S if in_progress else "",
        "refresh_payloads": REFRESH_S if in_progress and lead.status == LeadStatus.RECEIVED else "",
        **_payloads(look, seen),
        "headers": _headers(look),
        "commands": [] if lead.erased_at else _commands(look, seen),
    }


# --- where it stands -------------------------------------------------------------------------------------------------


def _facts(lead: InboundLead, now: datetime) -> list[tuple[str, str, str]]:
    """Return label, value and, for what is to be copied, the id of its element."""
    duplicates = LeadEvent.objects.filter(lead=lead.pk, kind=EventKind.DUPLICATE).count()
    return [
        (_("Received"), formatting.moment(lead.received_at, now=now), ""),
        (_("Delivered"), formatting.moment(lead.delivered_at, now=now), ""),
        (_("Received again"), _times(duplicates), ""),
        *([(_("Source"), lead.source, "")] if lead.source else []),
        (_("Correlation id"), str(lead.correlation_id), "correlation-id"),
        (_("Idempotency key"), str(lead.idempotency_key), "idempotency-key"),
        (_("Mapping file (SHA-256)"), _short(lead.mapping_sha256), ""),
    ]


def _times(count: int) -> str:
    return f"{number_format(count, force_grouping=True)} ×" if count else _("never")


def _short(sha256: str | None) -> str:
    return format_html('<code title="{}">{:.12}</code>', sha256, sha256) if sha256 else formatting.NOTHING


def _actions(look: Look) -> list[dict[str, str]]:
    """Return what the user may order for the lead as it stands."""
    if not look.request.user.has_perm("leads.act_on_lead"):
        return []
    return [
        {"label": str(kind.label), "url": f"{reverse('admin:leads_order', args=[kind.value])}?ids={look.lead.pk}"}
        for kind in _orders_that_apply(look.lead)
    ]


def _orders_that_apply(lead: InboundLead) -> list[BulkActionKind]:
    """Ask the database, so that the rule is the one by which orders choose their leads."""
    conditions: dict[str, Any] = {
        kind.value: ExpressionWrapper(eligibility(kind, include_delivered=True), BooleanField())
        for kind in BulkActionKind
    }
    row: Any = InboundLead.objects.filter(pk=lead.pk).values_list(*conditions.values()).get()
    return [kind for kind, holds in zip(BulkActionKind, row, strict=True) if holds]


# --- what happened ---------------------------------------------------------------------------------------------------


def _entries(look: Look, attempts: Attempts) -> list[dict[str, Any]]:
    user = look.request.user
    shown = attempts if user.has_perm("delivery.view_deliveryattempt") else ()
    trail = _trail(look.lead.pk) if user.has_perm("leads.view_leadevent") else Trail(())
    answers = _answers(shown)
    entries = timeline(look.lead, trail, shown, now=look.now, policy=retry_policy(), cover=look.cover)
    return [_entry(entry, look, answers) for entry in entries]


def _trail(lead_id: int) -> Trail:
    events = LeadEvent.objects.filter(lead=lead_id)
    first = list(events.order_by("pk")[: 2 * ENDS + 1])
    if len(first) <= 2 * ENDS:
        return Trail(first)
    last = list(events.order_by("-pk")[:ENDS])[::-1]
    return Trail(first[:ENDS], last, left_out=events.count() - 2 * ENDS)


def _answers(attempts: Attempts) -> dict[int, str | None]:
    """Return the customer's last answers, by the keys of the attempts."""
    keys = [attempt.pk for attempt in attempts[-ANSWERS:]]
    return dict(DeliveryAttempt.objects.filter(pk__in=keys).values_list("pk", "response_body"))


def _entry(entry: Entry, look: Look, answers: dict[int, str | None]) -> dict[str, Any]:
    answer = answers.get(entry.attempt.pk) if entry.attempt else None
    return {
        "title": formatting.visible(entry.title),
        "icon": entry.icon,
        "at": formatting.moment(entry.at, now=look.now) if entry.at else "",
        "tone": entry.tone,
        "step": entry.step,
        "label": formatting.badge(entry.label, entry.tone) if entry.label else "",
        "text": formatting.visible(entry.text),
        "actor": formatting.visible(entry.actor),
        "attempt": entry.attempt,
        "answer": formatting.formatted(answer, look.cover) if answer else "",
        "is_ahead": entry.is_ahead,
        "left_out": entry.left_out,
    }


# --- what was made of it ---------------------------------------------------------------------------------------------


def _payloads(look: Look, seen: dict[str, Any]) -> dict[str, Any]:
    lead = look.lead
    posted, normalized, customer = lead.raw_payload, lead.normalized_payload, lead.customer_payload
    compared = payload_diff.PayloadDiff() if normalized is None else payload_diff.compare(posted, normalized)
    for_customer = payload_diff.marks_for_customer(normalized, customer)
    mapped = LeadEvent.objects.filter(lead=lead.pk, kind=EventKind.MAPPED).order_by("-pk").first()
    omitted, count = payload_diff.left_out(normalized, customer, mapped.detail if mapped else None)
    return {
        "forms": [
            _form(_("As posted"), seen["raw_payload"], compared.before, lead),
            _form(_("Normalized"), seen["normalized_payload"], compared.after, lead),
            _form(_("For the customer"), seen["customer_payload"], for_customer, lead),
        ],
        "signs": list(payload_diff.SIGNS.values()),
        "is_normalized": normalized is not None,
        "is_mapped": customer is not None,
        "changes": [_change(change, look.cover) for change in compared.changes],
        "more_changes": _more(compared.total, compared.changes),
        "sources": payload_diff.sources(normalized, customer),
        "left_out": [(look.cover.text(each.name), look.cover.text(each.reason)) for each in omitted],
        "more_left_out": _more(count, omitted),
    }


def _form(title: str, payload: Any, marks: Any, lead: InboundLead) -> dict[str, str]:
    if payload is None or lead.erased_at:
        return {"title": title, "missing": _missing(lead)}
    return {"title": title, "block": _marked(payload_diff.marked_lines(payload, marks))}


def _missing(lead: InboundLead) -> str:
    """Say why a lead has no such form."""
    if lead.erased_at:
        return _("Erased.")
    if lead.status == LeadStatus.REJECTED:
        return _("There is none: the lead was rejected before it was made.")
    if lead.status == LeadStatus.RECEIVED:
        return _("Not made yet: the lead was not validated so far.")
    return _("There is none.")


def _marked(lines: list[tuple[str, str]]) -> SafeString:
    """Return a block of lines with the signs of their marks in front.

    There may be 20,000 of them: they are escaped together, and those without a mark stay together.
    """
    marks = [mark for mark, _text in lines]
    texts = escape(formatting.visible("\n".join(text for _mark, text in lines))).split("\n")
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


def _change(change: payload_diff.Change, cover: Cover) -> tuple[str, str, str, str]:
    before, after = (_value(cover.json(value, under=change.names)) for value in (change.before, change.after))
    return cover.text(payload_diff.path_in_words(change.path)), before, after, change.why


def _value(value: Any) -> str:
    text = formatting.visible(payload_diff.in_a_line(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _more(count: int, shown: Sequence[Any]) -> str:
    return number_format(count - len(shown), force_grouping=True) if count > len(shown) else ""


# --- how it came, and how to send it again ---------------------------------------------------------------------------


def _headers(look: Look) -> list[tuple[str, str]]:
    headers = look.cover.json(look.lead.source_headers)
    rows = headers.items() if isinstance(headers, dict) else [] if headers is None else [("", headers)]
    return [(formatting.visible(str(name)), formatting.visible(_header(value))) for name, value in rows]


def _header(value: Any) -> str:
    return value if isinstance(value, str) else payload_diff.in_a_line(value)


def _commands(look: Look, seen: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return id, title and text of each command."""
    url = look.request.build_absolute_uri(reverse("lead-webhook"))
    posted = curl.post_to_gateway(url, seen["raw_payload"])
    commands = [("curl-gateway", _("The sender's post to the gateway"), posted)]
    if (payload := seen["customer_payload"]) is not None:
        sent = curl.post_to_customer(settings.CUSTOMER_API_URL, look.lead, payload)
        commands.append(("curl-customer", _("The gateway's request to the customer"), sent))
    return commands
