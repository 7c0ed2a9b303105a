"""Checks of what is on this machine: versions, settings, the mapping file, the disk."""

import importlib.metadata
import platform
import re
import shutil
from collections.abc import Iterator

from django.conf import settings

from delivery.mapping import MappingError, load_mapping
from leadgateway.dependencies import shown_path
from stats.monitoring.doctor.finding import Finding, fail, ok, warn

_PIN = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)

#: The value in the seed's documentation: everybody knows it.
_PUBLIC_SECRET = "your_secret"  # noqa: S105

#: 16 random characters are some 80 bits.
_LONG_ENOUGH = 16

_GIB = 1024**3
_LITTLE_SPACE, _NO_SPACE = 1 * _GIB, _GIB // 10


def versions() -> Iterator[Finding]:
    """Compare Python and the installed packages with what the project is tested with."""
    yield ok("python", platform.python_version())
    pinned = dict(_PIN.findall((settings.BASE_DIR / "requirements.txt").read_text()))
    others = [f"{name} {found}, not {pin}" for name, pin in pinned.items() if (found := _installed(name)) != pin]
    if others:
        yield warn("packages", "; ".join(others), "pip install -r requirements.txt")
    else:
        yield ok("packages", f"{len(pinned)} as in requirements.txt")


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def exposure() -> Iterator[Finding]:
    """Look for settings that are fine for trying out, and not for real leads."""
    if settings.DEBUG:
        yield warn("DEBUG", "on", "Set DEBUG=false: error pages show payloads and settings.")
    else:
        yield ok("DEBUG", "off")
    yield _authentication()
    if "*" in settings.ALLOWED_HOSTS:
        yield warn("ALLOWED_HOSTS", "any", "Name the host names under which senders reach the gateway.")
    else:
        yield ok("ALLOWED_HOSTS", f"{', '.join(settings.ALLOWED_HOSTS) or 'none'}; other names get 400")


def _authentication() -> Finding:
    if not settings.ENABLE_AUTH:
        found = "off: whoever reaches the API may post leads and read statistics"
        return warn("ENABLE_AUTH", found, "Set ENABLE_AUTH=true, SHARED_SECRET and STATS_TOKEN.")
    if _PUBLIC_SECRET in settings.SHARED_SECRETS:
        return fail("ENABLE_AUTH", "on, with the secret of the documentation", "Set SHARED_SECRET to a random one.")
    if short := [
        secret for secret in (*settings.SHARED_SECRETS, settings.STATS_TOKEN) if 0 < len(secret) < _LONG_ENOUGH
    ]:
        found = f"on, with {len(short)} secrets of less than {_LONG_ENOUGH} characters"
        return warn("ENABLE_AUTH", found, "Nothing stops guessing but the length: openssl rand -hex 32.")
    return ok("ENABLE_AUTH", f"on, {len(settings.SHARED_SECRETS)} secrets")


def secret_key() -> Iterator[Finding]:
    """Look who can read the key that was made on the first start, if it is the one in use."""
    file = settings.VAR_DIR / "secret_key"
    if not file.exists() or file.read_text() != settings.SECRET_KEY:
        yield ok("SECRET_KEY", "given by SECRET_KEY")
    elif file.stat().st_mode & 0o077:
        yield warn("SECRET_KEY", f"{shown_path(file)} is open to other users", f"chmod 600 {shown_path(file)}")
    else:
        yield ok("SECRET_KEY", f"in {shown_path(file)}, for this user only")


def mapping() -> Iterator[Finding]:
    """Read the mapping file."""
    try:
        loaded = load_mapping(settings.ATTRIBUTE_MAPPING_FILE)
    except MappingError as error:
        yield fail("mapping file", str(error), "Mend the file; no process starts with it.")
    else:
        file = shown_path(settings.ATTRIBUTE_MAPPING_FILE)
        yield ok("mapping file", f"{file}: {len(loaded.rules)} attributes, sha256 {loaded.sha256}")


def disk() -> Iterator[Finding]:
    """Look how much room VAR_DIR has."""
    free = shutil.disk_usage(settings.VAR_DIR).free
    found = f"{free / _GIB:.1f} GiB free at {shown_path(settings.VAR_DIR)}"
    if free < _NO_SPACE:
        yield fail("disk", found, "Make room: a full disk refuses every lead.")
    elif free < _LITTLE_SPACE:
        yield warn("disk", found, "Make room soon.")
    else:
        yield ok("disk", found)
