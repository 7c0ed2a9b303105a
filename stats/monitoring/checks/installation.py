"""Checks of this machine: versions, settings, the secret key, the disk."""

import importlib.metadata
import platform
import re
import shutil
from collections.abc import Iterator

from django.conf import settings

from leadgateway.dependencies import shown_path
from stats.monitoring.checks.check import Check
from stats.monitoring.checks.result import CheckResult, failure, ok, warning

_PIN = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)

#: The value in the documentation of the specification, which everyone can read.
_PUBLIC_SECRET = "your_secret"  # noqa: S105

#: 16 random characters have about 80 bits.
_MIN_SECRET_LENGTH = 16

_GIB = 1024**3
_LOW_SPACE, _NO_SPACE = 1 * _GIB, _GIB // 10


def versions() -> Iterator[CheckResult]:
    """Compare the installed packages with requirements.txt."""
    yield ok("python", version=platform.python_version())
    pinned = dict(_PIN.findall((settings.BASE_DIR / "requirements.txt").read_text()))
    differences = [f"{name} {found}, not {pin}" for name, pin in pinned.items() if (found := _installed(name)) != pin]
    if differences:
        yield warning("packages", differences=differences)
    else:
        yield ok("packages", packages=len(pinned))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def exposure() -> Iterator[CheckResult]:
    """Check for settings that are meant for trials, not for real leads."""
    yield warning("DEBUG") if settings.DEBUG else ok("DEBUG")
    yield _authentication()
    hosts = list(settings.ALLOWED_HOSTS)
    yield warning("ALLOWED_HOSTS") if "*" in hosts else ok("ALLOWED_HOSTS", hosts=hosts)


def _authentication() -> CheckResult:
    secrets = (*settings.SHARED_SECRETS, settings.STATS_TOKEN)
    if not settings.ENABLE_AUTH:
        return warning("ENABLE_AUTH", code="off")
    if _PUBLIC_SECRET in settings.SHARED_SECRETS:
        return failure("ENABLE_AUTH", code="public_secret")
    if short := sum(0 < len(secret) < _MIN_SECRET_LENGTH for secret in secrets):
        return warning("ENABLE_AUTH", code="short_secrets", secrets=short, length=_MIN_SECRET_LENGTH)
    return ok("ENABLE_AUTH", secrets=len(settings.SHARED_SECRETS))


def secret_key() -> Iterator[CheckResult]:
    """Check that only this user can read the file of SECRET_KEY, if the key comes from it."""
    file = settings.VAR_DIR / "secret_key"
    if not file.exists() or file.read_text() != settings.SECRET_KEY:
        yield ok("SECRET_KEY", code="environment")
    elif file.stat().st_mode & 0o077:
        yield warning("SECRET_KEY", file=shown_path(file))
    else:
        yield ok("SECRET_KEY", code="file", file=shown_path(file))


def disk() -> Iterator[CheckResult]:
    """Check the free space of VAR_DIR."""
    free = shutil.disk_usage(settings.VAR_DIR).free
    make = failure if free < _NO_SPACE else warning if free < _LOW_SPACE else ok
    yield make("disk", free_gib=round(free / _GIB, 1), directory=shown_path(settings.VAR_DIR))


CHECKS = (
    Check("versions", versions),
    Check("settings", exposure),
    Check("SECRET_KEY", secret_key),
    Check("disk", disk),
)
