"""Who may read the statistics: with ENABLE_AUTH, clients with STATS_TOKEN and staff users who may view leads.

The senders' secret gives no access, because senders need not read leads.
"""

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request


def may_read_by_token(request: HttpRequest) -> bool:
    """Return whether the request may read statistics without a session; uses no database."""
    return not settings.ENABLE_AUTH or _has_token(request)


def is_staff_for_leads(request: HttpRequest) -> bool:
    """Return whether a staff user who may view leads is signed in.

    :raises django.db.Error: the session cannot be looked up.
    """
    user: AbstractBaseUser | AnonymousUser = request.user
    return isinstance(user, User) and user.is_active and user.is_staff and user.has_perm("leads.view_inboundlead")


def sees_personal_data(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether the user may see e-mail addresses and phone numbers of all leads."""
    return isinstance(user, User) and user.has_perm("leads.view_personal_data")


def _has_token(request: HttpRequest) -> bool:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not settings.STATS_TOKEN:
        return False
    # WSGI decodes headers as Latin-1. Compare bytes, so that a token in UTF-8 matches.
    return constant_time_compare(token.strip().encode("latin-1", "replace"), settings.STATS_TOKEN.encode())


class StatsReaders(BaseAuthentication):
    """Admits requests that may read the statistics."""

    def authenticate(self, request: Request) -> None:
        """Admit the request without a user.

        :raises AuthenticationFailed: it may not read the statistics.
        :raises django.db.Error: the session cannot be looked up.
        """
        plain = request._request
        if not (may_read_by_token(plain) or self.may_read_by_session(plain)):
            raise exceptions.AuthenticationFailed

    def may_read_by_session(self, request: HttpRequest) -> bool:
        """Return whether the signed-in user may read.

        :raises django.db.Error: the session cannot be looked up.
        """
        return is_staff_for_leads(request)

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme. Without one, Django REST framework would answer 403 instead of 401."""
        return "Bearer"


class HistoryReaders(StatsReaders):
    """Admits requests that may read everything about a lead, including personal data."""

    def may_read_by_session(self, request: HttpRequest) -> bool:
        """Return whether the signed-in user may read personal data."""
        return super().may_read_by_session(request) and sees_personal_data(request.user)
