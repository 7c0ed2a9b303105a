"""Django's middleware, for all requests except the webhook's: log lines, response headers, the admin's language."""

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import timezone, translation

from leadgateway.errors import error_response
from leadgateway.request import GatewayRequest
from leadgateway.request_log import RequestLog

GetResponse = Callable[[HttpRequest], HttpResponseBase]

_PERMISSIONS_POLICY = ", ".join(f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb"))

#: The headers of every response outside the admin that our middleware sets.
API_HEADERS = {
    "Permissions-Policy": _PERMISSIONS_POLICY,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # lead histories contain personal data
}
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class RequestContext:
    """Give each request a correlation id, and log its response. Refuse a request whose body was not received."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, http_request: HttpRequest) -> HttpResponseBase:
        request = cast(GatewayRequest, http_request)
        log = RequestLog(request)
        if error := getattr(request, "body_error", None):
            response: HttpResponseBase = error_response(request, error.status, error.error)
        else:
            response = self.get_response(request)
        log.end(response)
        return response


class AdminLocale(LocaleMiddleware):
    """Use the browser's language and ADMIN_TIME_ZONE in the admin; every other response is in English and UTC."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith("/admin"):
            return cast(HttpResponseBase, self.get_response(request))
        with timezone.override(settings.ADMIN_TIME_ZONE), translation.override(None):
            return cast(HttpResponseBase, super().__call__(request))


class ResponseHeaders:
    """Set the security headers of responses outside the admin, and let cookies work on the loopback address.

    A cookie for a plain request to the loopback address is sent without `Secure`, because it never leaves the machine
    and some browsers would drop it. Every other host needs TLS.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        is_api = not request.path_info.startswith(("/admin", "/static"))
        for name, value in (API_HEADERS if is_api else {"Permissions-Policy": _PERMISSIONS_POLICY}).items():
            response[name] = value
        host, _port = split_domain_port(request.META.get("HTTP_HOST", ""))
        if response.cookies and not request.is_secure() and host in _LOOPBACK_HOSTS:
            for cookie in response.cookies.values():
                cookie["secure"] = ""
        return response
