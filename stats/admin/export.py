"""Export the leads of a list as a file. It is streamed, and recorded in the audit log before it begins.

The last line marks the end of the file, so that an incomplete download is noticed.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connection, transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, QueryDict, StreamingHttpResponse
from django.utils import timezone
from django.utils.formats import get_format

from delivery.models import DeliveryAttempt
from leadgateway.time_format import timestamp
from leads.models import EventKind, LeadEvent
from stats.admin.filters import selection
from stats.masking import mask_email, mask_json, mask_phone, mask_text
from stats.permissions import sees_personal_data

Row = dict[str, Any]

#: The number of leads in memory at a time. A lead may have three payloads of 256 KB.
CHUNK = 500

#: The columns of both formats in order. The number of attempts follows as the last one.
COLUMNS = (
    *("id", "received_at", "status", "rejection_reason", "last_answer", "next_attempt_at"),
    *("delivered_at", "resolved_at", "search_phone", "search_email", "search_name", "search_zipcode"),
    *("correlation_id", "idempotency_key"),
)
PAYLOADS = ("raw_payload", "normalized_payload", "customer_payload", "source_headers", "mapping_sha256")

_MASKS: dict[str, Callable[[Any], Any]] = {
    "search_phone": mask_phone,
    "search_email": mask_email,
    "search_name": mask_text,
    "raw_payload": mask_json,
    "normalized_payload": mask_json,
    "customer_payload": mask_json,
    "source_headers": mask_json,
}

#: Spreadsheet programs read a cell that begins with one of these characters as a formula, or change it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export(model_admin: Any, request: HttpRequest) -> StreamingHttpResponse:
    """Return the leads of the list that the parameter `query` selects, as a file in `format`.

    :raises PermissionDenied: the user may not export leads.
    :raises BadRequest: the list does not accept the query, or the format does not exist.
    """
    if not (model_admin.has_view_permission(request) and request.user.has_perm("leads.export_lead")):
        raise PermissionDenied
    name = request.POST.get("format", "")
    if name not in FORMATS:
        raise BadRequest("unknown format")
    changelist = _requested_list(model_admin, request)
    leads = changelist.queryset.order_by("pk")
    detail = {"format": name, "leads": leads.values("pk").count(), "selection": selection(changelist)}
    actor = request.user.get_username()
    LeadEvent.objects.create(kind=EventKind.EXPORTED, actor=actor, at=timezone.now(), detail=detail)
    columns = COLUMNS if name == "csv" else COLUMNS + PAYLOADS
    rows = _rows(leads, *columns, masked=not sees_personal_data(request.user))
    response = StreamingHttpResponse(_parts(FORMATS[name](rows)), content_type=_CONTENT_TYPES[name])
    response["Content-Disposition"] = f'attachment; filename="leads-{timezone.localdate().isoformat()}.{name}"'
    return response


def _requested_list(model_admin: Any, request: HttpRequest) -> Any:
    """Return the list of leads for the query string in the body. In the URL, logs would show the search text."""
    request.GET = QueryDict(request.POST.get("query", "").removeprefix("?"))
    if "\0" in request.GET.get(SEARCH_VAR, ""):
        raise BadRequest("the search contains NUL")  # the list would ignore the search and contain all leads
    try:
        changelist = model_admin.get_changelist_instance(request)
    except IncorrectLookupParameters:
        raise BadRequest("invalid filter") from None
    if changelist.problems:
        raise BadRequest("invalid filter")
    return changelist


def _parts(lines: Iterator[str]) -> Iterator[str]:
    """Yield many lines at a time, because each part is sent separately."""
    while part := "".join(islice(lines, CHUNK)):
        yield part


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(leads: QuerySet, *columns: str, masked: bool) -> Iterator[Row]:
    """Yield the leads of one snapshot without loading all of them."""
    with _snapshot():
        for row in leads.values(*columns, attempts_made=_ATTEMPTS_MADE).iterator(chunk_size=CHUNK):
            yield {name: _value(name, value, masked=masked) for name, value in row.items()}


_ATTEMPTS_MADE = Coalesce(
    Subquery(DeliveryAttempt.objects.filter(lead=OuterRef("pk")).values("lead").annotate(n=Count("pk")).values("n")), 0
)


def _snapshot() -> AbstractContextManager[Any]:
    """Return a transaction on PostgreSQL, which otherwise copies the whole result before it returns the first row.

    On SQLite a transaction would block the webhook.
    """
    return transaction.atomic() if connection.vendor == "postgresql" else nullcontext()


def _value(name: str, value: Any, *, masked: bool) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    return _MASKS[name](value) if masked and value is not None and name in _MASKS else value


# --- formats ---------------------------------------------------------------------------------------------------------


class _Echo:
    """A file whose `write` returns the text."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    """Return the lines of a CSV file that spreadsheet programs open correctly."""
    # Excel expects this delimiter in the reader's locale, where a comma may be part of a number.
    return _csv_lines(rows, csv.writer(_Echo(), delimiter=";" if get_format("DECIMAL_SEPARATOR") == "," else ","))


def _csv_lines(rows: Iterable[Row], writer: Any) -> Iterator[str]:
    yield "\ufeff" + writer.writerow([*COLUMNS, "attempts_made"])
    number = 0
    for row in rows:
        number += 1
        yield writer.writerow([_cell(value) for value in row.values()])
    yield writer.writerow([f"# end of export: {number} leads"])


def _cell(value: Any) -> Any:
    """Return a value that spreadsheet programs do not read as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    number = 0
    for row in rows:
        number += 1
        yield json.dumps(row, default=str) + "\n"
    yield json.dumps({"end_of_export": True, "leads": number}) + "\n"


FORMATS: dict[str, Callable[[Iterable[Row]], Iterator[str]]] = {"csv": _csv, "jsonl": _json_lines}
_CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson; charset=utf-8"}
