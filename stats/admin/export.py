"""The leads of a list as a file: streamed, whole, and written to the trail before the first of them leaves.

Its last line says that it is the last one, so that a file that broke off is noticed.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connection, transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, QueryDict, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import get_format
from django.views.decorators.http import require_POST

from delivery.models import DeliveryAttempt
from leadgateway.time_format import timestamp
from leads.models import EventKind, LeadEvent
from stats.admin.filters import in_words
from stats.masking import mask_email, mask_json, mask_phone, mask_text
from stats.permissions import sees_personal_data

Row = dict[str, Any]

#: Leads that are in memory at a time: a payload may have 256 KB, in three forms.
CHUNK = 500

#: The columns of both formats, in order; the number of attempts comes last.
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

#: A cell that begins so is taken for a formula, or changed, by spreadsheet programs.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export(model_admin: Any, request: HttpRequest) -> StreamingHttpResponse:
    """Answer with the leads of the list that `query` asks for, as a file in the `format` asked for.

    :raises PermissionDenied: the user may not export.
    :raises BadRequest: the list cannot be asked that, or there is no such format.
    """
    if not (model_admin.has_view_permission(request) and request.user.has_perm("leads.export_lead")):
        raise PermissionDenied
    name = request.POST.get("format", "")
    if name not in FORMATS:
        raise BadRequest("unknown format")
    changelist = _list_asked_for(model_admin, request)
    leads = changelist.queryset.order_by("pk")
    _record(request, name, leads, in_words(changelist))
    rows = _rows(leads, *_columns(name), masked=not sees_personal_data(request.user))
    return _file(name, FORMATS[name](rows))


def _list_asked_for(model_admin: Any, request: HttpRequest) -> Any:
    """Return the list of leads for a query string that comes in the body: what is searched for is in no log then."""
    request.GET = QueryDict(request.POST.get("query", "").removeprefix("?"))
    if "\0" in request.GET.get(SEARCH_VAR, ""):
        raise BadRequest("NUL is not searched for")  # the list would leave the search out, and hold everything
    try:
        changelist = model_admin.get_changelist_instance(request)
    except IncorrectLookupParameters:
        raise BadRequest("the list cannot be asked that") from None
    if changelist.problems:
        raise BadRequest("the list cannot be asked that")
    return changelist


def _record(request: HttpRequest, name: str, leads: QuerySet, selection: str) -> None:
    detail = {"format": name, "leads": leads.values("pk").count(), "selection": selection}
    LeadEvent.objects.create(
        kind=EventKind.EXPORTED, actor=request.user.get_username(), at=timezone.now(), detail=detail
    )


def _file(name: str, lines: Iterator[str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_joined(lines), content_type=_CONTENT_TYPES[name])
    day = timezone.localdate().isoformat()
    response["Content-Disposition"] = f'attachment; filename="leads-{day}.{name}"'
    return response


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Yield many lines at a time: each part is sent by itself."""
    while part := "".join(islice(lines, CHUNK)):
        yield part


# --- what is in it ---------------------------------------------------------------------------------------------------


def _columns(name: str) -> tuple[str, ...]:
    return COLUMNS if name == "csv" else COLUMNS + PAYLOADS


def _rows(leads: QuerySet, *columns: str, masked: bool) -> Iterator[Row]:
    """Yield the leads column by column, as they were at one moment and never many at a time."""
    with _one_moment():
        for row in leads.values(*columns, attempts_made=_ATTEMPTS_MADE).iterator(chunk_size=CHUNK):
            yield {name: _value(name, value, masked=masked) for name, value in row.items()}


_ATTEMPTS_MADE = Coalesce(
    Subquery(DeliveryAttempt.objects.filter(lead=OuterRef("pk")).values("lead").annotate(n=Count("pk")).values("n")), 0
)


def _one_moment() -> AbstractContextManager[Any]:
    """Return a transaction on PostgreSQL, which without one would copy the whole result aside before the first row.

    On SQLite a transaction would keep the webhook from writing.
    """
    return transaction.atomic() if connection.vendor == "postgresql" else nullcontext()


def _value(name: str, value: Any, *, masked: bool) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    return _MASKS[name](value) if masked and value is not None and name in _MASKS else value


# --- how it is written -----------------------------------------------------------------------------------------------


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    """Return the lines of a file that spreadsheet programs open as it is meant."""
    return _csv_lines(rows, csv.writer(_Echo(), delimiter=_delimiter()))


def _csv_lines(rows: Iterable[Row], writer: Any) -> Iterator[str]:
    yield "\ufeff" + writer.writerow([*COLUMNS, "attempts_made"])
    number = 0
    for row in rows:
        number += 1
        yield writer.writerow([_cell(value) for value in row.values()])
    yield writer.writerow([f"# end of export: {number} leads"])


def _delimiter() -> str:
    """Return what Excel takes for one where the reader is: a comma is part of numbers in some places."""
    return ";" if get_format("DECIMAL_SEPARATOR") == "," else ","


def _cell(value: Any) -> Any:
    """Return a value so that no spreadsheet program takes it for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    number = 0
    for row in rows:
        number += 1
        yield json.dumps(row, default=str) + "\n"
    yield json.dumps({"end_of_export": True, "leads": number}) + "\n"


FORMATS: dict[str, Callable[[Iterable[Row]], Iterator[str]]] = {"csv": _csv, "jsonl": _json_lines}
_CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson; charset=utf-8"}


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of `export`, for the URLs of the leads."""
    view = model_admin.admin_site.admin_view(require_POST(partial(export, model_admin)))
    return [path("export/", view, name="leads_export")]
