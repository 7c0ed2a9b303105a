"""Sees to it that what the tests run is on this machine: `python -m tests.install_servers`, part of `make test`."""

import os
import shutil
import subprocess
import sys

from tests.servers import ServerMissing, postgres_binary, program, redis_binary

_BINARIES = {
    "postgresql": lambda: postgres_binary("postgres"),
    "redis-server": redis_binary,
    "chromium": lambda: program("chromium", package="chromium"),  # for the tests of the admin
    "gettext": lambda: program("xgettext", package="gettext"),  # finds the texts that have to be translated
    "prometheus": lambda: program("promtool", package="prometheus"),  # tries the alert rules and the dashboard
}

#: The tests start servers of their own, so the packages' services are kept from starting: a policy says no (101).
_INSTALL = """
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends "$@"
"""


def main() -> None:
    packages = missing_packages()
    if packages:
        _install(packages)
        packages = missing_packages()
    if packages:
        sys.exit(f"Still missing after the installation of {' and '.join(packages)}.")
    for package, find in _BINARIES.items():
        print(f"{package}: {find()}")  # noqa: T201


def missing_packages() -> list[str]:
    """Return Debian's names for the programs that are not on this machine."""
    missing = []
    for package, find in _BINARIES.items():
        try:
            find()
        except ServerMissing:
            missing.append(package)
    return missing


def _install(packages: list[str]) -> None:
    wanted = " and ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"The tests need {wanted} (Debian's names), and there is no apt-get here to install them.")
    as_root = _way_to_root()
    if as_root is None:
        sys.exit(f"The tests need {wanted}. Install them: sudo apt-get install {' '.join(packages)}")
    print(f"Installing {wanted} from Debian, without starting them ...", flush=True)  # noqa: T201
    done = subprocess.run([*as_root, "sh", "-ec", _INSTALL, "sh", *packages], check=False)
    if done.returncode != 0:
        sys.exit(f"The installation of {wanted} failed; the tests need them.")


def _way_to_root() -> list[str] | None:
    """Return what to put before a command to run it as root; None when we may not."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]  # without asking for a password
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


if __name__ == "__main__":
    main()
