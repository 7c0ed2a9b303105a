"""Sign-in to the admin: log every login, failure and lock-out, and explain a lock-out.

django-axes counts the failures in the database, so that all processes count together. The log does not contain the
user name that was typed, because it may be a password.
"""

from datetime import timedelta
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from leadgateway.logging import get_logger

log = get_logger(__name__)


def locked_out(request: HttpRequest, _response: HttpResponse | None, _credentials: Any) -> HttpResponse:
    """Return 429 with a page that says when the user can try again."""
    wait: timedelta = settings.AXES_COOLOFF_TIME
    minutes = round(wait / timedelta(minutes=1))
    message = ngettext(
        "Too many failed attempts. Try again in {minutes} minute.",
        "Too many failed attempts. Try again in {minutes} minutes.",
        minutes,
    )
    context = {
        **admin.site.each_context(request),
        "title": _("Account locked"),
        "message": message.format(minutes=minutes),
    }
    response = render(request, "stats/admin/locked_out.html", context, status=429)
    response["Retry-After"] = str(int(wait.total_seconds()))
    return response


@receiver(user_logged_in)
def _log_login(request: HttpRequest | None, user: AbstractBaseUser, **_: Any) -> None:
    log.info("login", user_id=user.pk, address=_address(request))


@receiver(user_logged_out)
def _log_logout(request: HttpRequest | None, user: AbstractBaseUser | None, **_: Any) -> None:
    log.info("logout", user_id=user.pk if user else None, address=_address(request))


@receiver(user_login_failed)
def _log_failure(request: HttpRequest | None, **_: Any) -> None:
    log.warning("login_failed", address=_address(request))


@receiver(user_locked_out)
def _log_lock_out(request: HttpRequest | None, **_: Any) -> None:
    log.error("login_locked_out", address=_address(request))


def _address(request: HttpRequest | None) -> str | None:
    return None if request is None else request.META.get("REMOTE_ADDR")
