"""One shape for every error: {"error": "...", "correlation_id": "..."}. 4xx: mend it. 5xx: send it again."""

from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views import defaults
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation


def error_response(request: HttpRequest, status: int, error: str) -> JsonResponse:
    """Answer with an error in the one shape."""
    return JsonResponse({"error": error, "correlation_id": getattr(request, "correlation_id", None)}, status=status)


class ServiceUnavailable(exceptions.APIException):
    """A neighbour we need is away: the sender should post the same again."""

    status_code = 503


class AlwaysJSON(BaseContentNegotiation):
    """Answer JSON whatever the Accept header asks for."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """Return the first parser; bodies are read by the views themselves."""
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        """Return the JSON renderer."""
        return renderers[0], renderers[0].media_type


_WORDS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    429: "too many requests",
}


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Give an exception of a view the one shape; a bug is left to Django, which logs it and answers 500."""
    request: HttpRequest = context["request"]._request
    if isinstance(exc, Http404):
        return error_response(request, 404, str(exc) or _WORDS[404])
    if not isinstance(exc, exceptions.APIException):
        return None
    response = error_response(request, exc.status_code, _WORDS.get(exc.status_code, str(exc.detail)))
    if isinstance(exc, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    if header := getattr(exc, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(exc, "wait", None) or (exc.status_code == 503 and 1):
        response["Retry-After"] = str(wait)
    return response


def _is_for_people(request: HttpRequest) -> bool:
    return request.path.startswith("/admin")


def _page(request: HttpRequest, status: int, title: str) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title}
    return render(request, f"stats/admin/{status}.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django itself refused, such as a Host outside ALLOWED_HOSTS."""
    return error_response(request, 400, "bad request")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403."""
    if _is_for_people(request):
        return _page(request, 403, _("Not allowed"))
    return error_response(request, 403, _WORDS[403])


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an unknown path."""
    if _is_for_people(request):
        return _page(request, 404, _("Page not found"))
    return error_response(request, 404, _WORDS[404])


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a bug of ours; Django has logged it."""
    if _is_for_people(request):
        return defaults.server_error(request)
    return error_response(request, 500, "internal server error")
