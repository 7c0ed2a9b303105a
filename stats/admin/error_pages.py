"""HTML error pages for the admin. Every other path gets the JSON errors of `leadgateway.errors`."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views import defaults

from leadgateway import errors


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return 403."""
    if not _is_admin(request):
        return errors.error_response(request, 403)
    return _page(request, 403, _("Not allowed"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return 404."""
    if not _is_admin(request):
        return errors.error_response(request, 404)
    return _page(request, 404, _("Page not found"))


def server_error(request: HttpRequest) -> HttpResponse:
    """Return 500. The page uses no context, because that could fail again."""
    return defaults.server_error(request) if _is_admin(request) else errors.error_response(request, 500)


def _is_admin(request: HttpRequest) -> bool:
    return request.path.startswith("/admin")


def _page(request: HttpRequest, status: int, title: str) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title}
    return render(request, f"stats/admin/{status}.html", context, status=status)
