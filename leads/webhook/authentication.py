"""Who may post leads: whoever knows one of the shared secrets. Which one says who it was."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request


def source_of(request: HttpRequest) -> str | None:
    """Return the name of the source whose secret X-Shared-Secret holds, None when it is nobody's.

    Every secret is compared, in constant time.
    """
    # WSGI hands header bytes over as Latin-1; a secret in UTF-8 has to be compared as the bytes it was sent as.
    given = request.META.get("HTTP_X_SHARED_SECRET", "").encode("latin-1", "replace")
    names = zip(settings.SHARED_SECRETS, settings.SHARED_SECRET_NAMES, strict=True)
    known = [name for secret, name in names if constant_time_compare(given, secret.encode())]
    return known[0] if known else None


class SharedSecretAuthentication(BaseAuthentication):
    """The seed's optional authentication; runs before a byte of the body is read."""

    def authenticate(self, request: Request) -> None:
        """Let the request pass, as nobody in particular.

        :raises AuthenticationFailed: ENABLE_AUTH is on and the header is missing or wrong.
        """
        if settings.ENABLE_AUTH and source_of(request._request) is None:
            raise exceptions.AuthenticationFailed

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme; without one the framework would answer 403."""
        return "SharedSecret"
