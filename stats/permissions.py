"""Who may read the statistics: with ENABLE_AUTH the holder of STATS_TOKEN, and staff who may view leads in the admin.

The senders' secret opens nothing here: who may post leads need not read them.
"""

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request


def may_read_by_token(request: HttpRequest) -> bool:
    """Tell whether the request may read without anybody being signed in; asks no database."""
    return not settings.ENABLE_AUTH or _knows_the_token(request)


def is_staff_for_leads(request: HttpRequest) -> bool:
    """Tell whether a staff user who may view leads is signed in.

    :raises django.db.Error: the session cannot be looked up.
    """
    user: AbstractBaseUser | AnonymousUser = request.user
    return isinstance(user, User) and user.is_active and user.is_staff and user.has_perm("leads.view_inboundlead")


def sees_personal_data(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Tell whether the user sees e-mail addresses and phone numbers without asking for each lead."""
    return isinstance(user, User) and user.has_perm("leads.view_personal_data")


def _knows_the_token(request: HttpRequest) -> bool:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not settings.STATS_TOKEN:
        return False
    # WSGI hands header bytes over as Latin-1; a token in UTF-8 has to be compared as the bytes it was sent as.
    return constant_time_compare(token.strip().encode("latin-1", "replace"), settings.STATS_TOKEN.encode())


class StatsReaders(BaseAuthentication):
    """Lets those through who may read the statistics."""

    def authenticate(self, request: Request) -> None:
        """Let the request pass, as nobody in particular.

        :raises AuthenticationFailed: it may not read the statistics.
        :raises django.db.Error: the session cannot be looked up.
        """
        plain = request._request
        if not (may_read_by_token(plain) or self.may_read_by_session(plain)):
            raise exceptions.AuthenticationFailed

    def may_read_by_session(self, request: HttpRequest) -> bool:
        """Tell whether somebody is signed in who may read.

        :raises django.db.Error: the session cannot be looked up.
        """
        return is_staff_for_leads(request)

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme; without one the framework would answer 403."""
        return "Bearer"


class HistoryReaders(StatsReaders):
    """Lets those through who may read all about a lead, its personal data included."""

    def may_read_by_session(self, request: HttpRequest) -> bool:
        """Tell whether somebody is signed in who sees personal data."""
        return super().may_read_by_session(request) and sees_personal_data(request.user)
