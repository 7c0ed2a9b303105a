"""The views of statistics, metrics and health."""

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
from stats.monitoring.checks.result import Verdict
from stats.permissions import HistoryReaders, StatsReaders, is_staff_for_leads, may_read_by_token

log = get_logger(__name__)

#: How long queries may take once the database is connected: counting millions of leads takes a while.
READ_DEADLINE = timedelta(seconds=5)

#: Longer than any id, and shorter than the maximum that `int` accepts.
_MAX_ID_LENGTH = 1000

#: An invalid version in an Accept header. prometheus_client would crash, or repeat it in its response.
_INVALID_VERSION = re.compile(r"version=(?!\d{1,9}(?:\.\d{1,9}){0,2}\s*(?:[;,]|\Z))[^;,]*", re.ASCII)


class StatsView(APIView):
    """Base of the views that only readers of the statistics may use."""

    authentication_classes = [StatsReaders]
    http_method_names = ["get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the request and connect to the database, within DATABASE_TIMEOUT."""
        with db.deadline(settings.DATABASE_TIMEOUT):
            super().initial(request, *args, **kwargs)
            connection.ensure_connection()

    def get(self, request: Request, **kwargs: str) -> HttpResponse:
        """Respond with the result of `read`."""
        with db.deadline(READ_DEADLINE):
            return _json(self.read(**kwargs))

    def read(self, **kwargs: str) -> Any:
        """Return the body of the response."""
        raise NotImplementedError

    def handle_exception(self, exc: Exception) -> Response:
        """Respond with 503 if the database is unavailable."""
        if isinstance(exc, db.UNAVAILABLE):
            log.error("database_error", exc_info=exc)
            exc = ServiceUnavailable("database error")
        return super().handle_exception(exc)


class Counts(StatsView):
    """GET /stats/leads/counts: the number of leads in each status."""

    def read(self, **kwargs: str) -> Any:
        return queries.counts()


class Recent(StatsView):
    """GET /stats/leads/recent: the last received leads."""

    def read(self, **kwargs: str) -> Any:
        return queries.recent()


class History(StatsView):
    """GET /stats/leads/{id}/history: everything about one lead, including personal data."""

    authentication_classes = [HistoryReaders]

    def read(self, **kwargs: str) -> Any:
        now = timezone.now()
        lead = queries.find_lead(_lead_id(kwargs["lead_id"]))
        if lead is None:
            raise Http404("lead not found")
        structlog.contextvars.bind_contextvars(lead_id=lead.pk)
        return queries.history(lead, queries.attempts_of(lead.pk), now=now)


class Metrics(StatsView):
    """GET /metrics: all available metrics for Prometheus."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the request without connecting to the database."""
        with db.deadline(settings.DATABASE_TIMEOUT):
            APIView.initial(self, request, *args, **kwargs)

    def get(self, request: Request, **kwargs: str) -> HttpResponse:
        """Respond in the format of the Accept header."""
        encode, content_type = choose_encoder(_INVALID_VERSION.sub("", request.META.get("HTTP_ACCEPT", "")))
        collected = metrics.collect(
            now=timezone.now(), connect_timeout=settings.DATABASE_TIMEOUT, query_timeout=READ_DEADLINE
        )
        return HttpResponse(encode(collected), content_type=content_type, headers={"Cache-Control": "no-store"})


class Health(APIView):
    """GET /health: the process answers. It checks no dependency, because a restart would not fix one."""

    http_method_names = ["get", "head"]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse("OK", content_type="text/plain; charset=utf-8")


class Ready(APIView):
    """GET /health/ready: whether leads can be accepted, and if not, why."""

    http_method_names = ["get", "head"]

    def perform_authentication(self, request: Request) -> None:
        """Admit every request, and keep the user of the session, which the framework would replace."""

    def get(self, request: Request) -> HttpResponse:
        results = readiness.run_checks()
        has_database = results["database"].verdict is Verdict.OK
        detailed = _may_see_reasons(request._request, has_database=has_database)
        status = readiness.status(results)
        checks = {name: readiness.as_json(result, detailed=detailed) for name, result in results.items()}
        return _json({"status": status, "checks": checks}, status=503 if status == "not ready" else 200)


class Contract(APIView):
    """GET /openapi.yaml: the description of the HTTP API, without authentication because it is public documentation."""

    http_method_names = ["get", "head"]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(_contract(), content_type="application/yaml")


@cache
def _contract() -> bytes:
    return (settings.BASE_DIR / "config" / "openapi.yaml").read_bytes()


def _may_see_reasons(request: HttpRequest, *, has_database: bool) -> bool:
    if may_read_by_token(request) or not has_database:
        return may_read_by_token(request)
    try:
        with db.deadline(timedelta(milliseconds=100)):
            return is_staff_for_leads(request)
    except db.UNAVAILABLE:
        return False


def _lead_id(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_ID_LENGTH else -1


def _json(body: Any, *, status: int = 200) -> HttpResponse:
    """Respond with readable UTF-8 that no cache may keep, because leads are personal data."""
    text = json.dumps(body, ensure_ascii=False)
    response = HttpResponse(text.encode("utf-8", "replace"), content_type="application/json", status=status)
    response["Cache-Control"] = "no-store"
    return response
