"""Install the programs that the tests run: `python -m tests.install_servers [PACKAGE ...]`, part of `make test`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from tests.servers import ServerMissing, postgres_binary, program, rabbitmq_binary, redis_binary

#: How to find a program of each Debian package.
_PROGRAMS = {
    "postgresql": lambda: postgres_binary("postgres"),
    "redis-server": redis_binary,
    "pgbouncer": lambda: program("pgbouncer", package="pgbouncer"),
    "rabbitmq-server": lambda: rabbitmq_binary("rabbitmq-server"),
    "chromium": lambda: program("chromium", package="chromium"),  # tests of the admin
    "gettext": lambda: program("xgettext", package="gettext"),  # tests of the translations
    "prometheus": lambda: program("promtool", package="prometheus"),  # tests of alert rules and dashboards
    "openssl": lambda: program("openssl", package="openssl"),  # certificates of the tests of TLS
}

#: invoke-rc.d asks this program whether it may start a service.
POLICY = Path("/usr/sbin/policy-rc.d")

#: The tests start servers of their own, so a policy forbids (101) to start the packages' services.
_INSTALL = """
policy=$1; shift
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends "$@"
"""


def main(wanted: Collection[str] = ()) -> None:
    """Install the missing packages and print where each program is.

    :param wanted: Debian packages to look at; all when it is empty.
    :raises SystemExit: A program is missing and cannot be installed. The message says what to install.
    """
    packages = missing_packages(wanted)
    if packages:
        _install(packages)
        packages = missing_packages(wanted)
    if packages:
        sys.exit(f"Still missing after the installation of {' and '.join(packages)}.")
    for package in wanted or _PROGRAMS:
        print(f"{package}: {_PROGRAMS[package]()}")  # noqa: T201


def missing_packages(wanted: Collection[str] = ()) -> list[str]:
    """Return the Debian packages of the missing programs, of all or of the wanted packages."""
    missing = []
    for package in wanted or _PROGRAMS:
        try:
            _PROGRAMS[package]()
        except ServerMissing:
            missing.append(package)
    return missing


def _install(packages: list[str]) -> None:
    wanted = " and ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"The tests need the programs of the Debian packages {wanted}. Install them: apt-get is missing.")
    as_root = _root_command()
    if as_root is None:
        sys.exit(f"The tests need {wanted}. Install them: sudo apt-get install {' '.join(packages)}")
    print(f"Installing {wanted} from Debian, without starting them ...", flush=True)  # noqa: T201
    done = subprocess.run([*as_root, "sh", "-ec", _INSTALL, "sh", str(POLICY), *packages], check=False)
    if done.returncode != 0:
        sys.exit(f"The installation of {wanted} failed; the tests need them.")


def _root_command() -> list[str] | None:
    """Return the prefix that runs a command as root, None when that is not allowed."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]  # without asking for a password
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


if __name__ == "__main__":
    main(sys.argv[1:])
