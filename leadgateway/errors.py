"""The JSON body of every error: {"error": "...", "correlation_id": "..."}. 4xx: correct the request. 5xx: retry it."""

from collections.abc import Iterable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

_ERRORS = {
    400: "bad request",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    429: "too many requests",
    500: "internal server error",
}


def error_response(request: HttpRequest, status: int, error: str = "") -> JsonResponse:
    """Return an error response. A request that Django refused before our middleware has no correlation id.

    :param error: defaults to the ordinary text of the status.
    """
    correlation_id = getattr(request, "correlation_id", None)
    return JsonResponse({"error": error or _ERRORS[status], "correlation_id": correlation_id}, status=status)


class ServiceUnavailable(exceptions.APIException):
    """The database or the queue is unavailable. The sender should post the same lead again."""

    status_code = 503


class AlwaysJSON(BaseContentNegotiation):
    """Respond with JSON whatever the Accept header asks for."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the first parser. It is not used, because views read their bodies themselves."""
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the JSON renderer."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Return the error response for an exception that a view raised, or None for a bug: Django logs it as a 500."""
    request: HttpRequest = context["request"]._request
    if isinstance(exc, Http404):
        return error_response(request, 404, str(exc))
    if not isinstance(exc, exceptions.APIException):
        return None
    response = error_response(request, exc.status_code, _ERRORS.get(exc.status_code, str(exc.detail)))
    if isinstance(exc, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    if header := getattr(exc, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(exc, "wait", None) or (exc.status_code == 503 and 1):
        response["Retry-After"] = str(wait)
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return 400 for a request that Django refuses, such as one with a Host outside ALLOWED_HOSTS."""
    return error_response(request, 400)
