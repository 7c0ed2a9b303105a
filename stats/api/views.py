"""The statistics and the health of the gateway, over HTTP."""

import json
import re
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client.exposition import choose_encoder
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from leadgateway import db
from leadgateway.errors import ServiceUnavailable
from leadgateway.logging import get_logger
from stats.api import queries
from stats.monitoring import metrics, readiness
from stats.permissions import HistoryReaders, StatsReaders, is_staff_for_leads, may_read_by_token

log = get_logger(__name__)

#: How long a database that is there may take over an answer: counting millions of leads is not being away.
READ_DEADLINE = timedelta(seconds=5)

#: Longer than any id, and shorter than what `int` refuses to read.
_LONGEST_ID = 1000

#: A version in an Accept header that is none: the library would stumble over it, or repeat it in its answer.
_NO_VERSION = re.compile(r"version=(?!\d{1,9}(?:\.\d{1,9}){0,2}\s*(?:[;,]|\Z))[^;,]*", re.ASCII)


class StatsView(APIView):
    """A read-only view of the leads, for those who may read the statistics."""

    authentication_classes = [StatsReaders]
    http_method_names = ["get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Admit the request, and make sure of the database."""
        with db.deadline(settings.DATABASE_TIMEOUT):
            super().initial(request, *args, **kwargs)
            connection.ensure_connection()

    def get(self, request: Request, **kwargs: str) -> HttpResponse:
        """Answer 200 with what `read` returns."""
        with db.deadline(READ_DEADLINE):
            return _json(self.read(**kwargs))

    def read(self, **kwargs: str) -> Any:
        """Return the answer's body."""
        raise NotImplementedError

    def handle_exception(self, exc: Exception) -> Response:
        """Answer 503 when the database is away."""
        if isinstance(exc, db.UNAVAILABLE):
            log.error("database_error", exc_info=exc)
            exc = ServiceUnavailable("database error")
        return super().handle_exception(exc)


class Counts(StatsView):
    """GET /stats/leads/counts: how many leads are in each status."""

    def read(self, **kwargs: str) -> Any:
        return queries.counts()


class Recent(StatsView):
    """GET /stats/leads/recent: the leads received last."""

    def read(self, **kwargs: str) -> Any:
        return queries.recent()


class History(StatsView):
    """GET /stats/leads/{id}/history: all about one lead, its personal data included."""

    authentication_classes = [HistoryReaders]

    def read(self, **kwargs: str) -> Any:
        now = timezone.now()
        lead = queries.find_lead(_lead_id(kwargs["lead_id"]))
        if lead is None:
            raise Http404("lead not found")
        structlog.contextvars.bind_contextvars(lead_id=lead.pk)
        return queries.history(lead, queries.attempts_of(lead.pk), now=now)


class Metrics(StatsView):
    """GET /metrics: the figures for Prometheus, as many as can be had."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Admit the request, whether or not the database is there."""
        with db.deadline(settings.DATABASE_TIMEOUT):
            APIView.initial(self, request, *args, **kwargs)

    def get(self, request: Request, **kwargs: str) -> HttpResponse:
        """Answer 200 in the format that is asked for."""
        encode, content_type = choose_encoder(_NO_VERSION.sub("", request.META.get("HTTP_ACCEPT", "")))
        figures = metrics.figures(now=timezone.now(), reach=settings.DATABASE_TIMEOUT, read=READ_DEADLINE)
        return HttpResponse(encode(figures), content_type=content_type, headers={"Cache-Control": "no-store"})


class Health(APIView):
    """GET /health: the process answers. It asks no neighbour: restarting us would not make another well."""

    http_method_names = ["get", "head"]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse("OK", content_type="text/plain; charset=utf-8")


class Ready(APIView):
    """GET /health/ready: whether leads can be taken, and if not, why."""

    http_method_names = ["get", "head"]

    def perform_authentication(self, request: Request) -> None:
        """Admit everybody, and leave the session's user in place, whom the framework would replace by nobody."""

    def get(self, request: Request) -> HttpResponse:
        checks = readiness.look()
        detailed = _may_see_reasons(request._request, database_is_there=checks["database"].ok)
        status = readiness.status(checks)
        body = {"status": status, "checks": {name: check.shown(detailed=detailed) for name, check in checks.items()}}
        return _json(body, status=503 if status == "not ready" else 200)


class Contract(APIView):
    """GET /openapi.yaml: the HTTP interface in OpenAPI, open to all: there is no more in it than in the README."""

    http_method_names = ["get", "head"]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(_contract(), content_type="application/yaml")


@cache
def _contract() -> bytes:
    return (settings.BASE_DIR / "config" / "openapi.yaml").read_bytes()


def _may_see_reasons(request: HttpRequest, *, database_is_there: bool) -> bool:
    if may_read_by_token(request) or not database_is_there:
        return may_read_by_token(request)
    try:
        with db.deadline(timedelta(milliseconds=100)):
            return is_staff_for_leads(request)
    except db.UNAVAILABLE:
        return False


def _lead_id(digits: str) -> int:
    return int(digits) if len(digits) <= _LONGEST_ID else -1


def _json(body: Any, *, status: int = 200) -> HttpResponse:
    """Answer UTF-8 as people read it; leads are personal data, so no cache keeps it."""
    text = json.dumps(body, ensure_ascii=False)
    response = HttpResponse(text.encode("utf-8", "replace"), content_type="application/json", status=status)
    response["Cache-Control"] = "no-store"
    return response
