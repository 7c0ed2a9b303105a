"""Asks OSV for known vulnerabilities of every installed package: `python -m tests.dependency_audit`, in `make lint`.

It fails on any that is found. When OSV cannot be asked it says so and does not fail: a check that needs the network
must not stop work without one, and must not look like a good answer either.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OSV = "https://api.osv.dev/v1/query"

#: Of one answer.
_TIMEOUT_S = 5

_PLAINLY = ("--format=json", "--desc=off", "--progress-spinner=off", f"--timeout={_TIMEOUT_S}")


def main() -> int:
    """Audit this environment, or the packages installed in --path; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=OSV)
    parser.add_argument("--path", type=Path, help="a directory of installed packages, in place of this environment")
    options = parser.parse_args()
    report = _ask(options.url, ["--path", str(options.path)] if options.path else [])
    if report is None:
        return 0
    found = [_line(package, each) for package in report for each in package.get("vulns", [])]
    asked = [package for package in report if "skip_reason" not in package]
    print("\n".join([*found, f"{len(asked)} packages, {len(found)} known vulnerabilities"]))  # noqa: T201
    return 1 if found else 0


def _ask(url: str, where: list[str]) -> list[dict[str, Any]] | None:
    """Return what pip-audit says of each package; None, after saying why, when it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service=osv", f"--osv-url={url}", *_PLAINLY]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip() or "no answer").splitlines()[-1]
        _warn(f"NOT AUDITED: {url} could not be asked ({reason[:200]}).")
        return None
    for package in packages:
        if "skip_reason" in package:
            _warn(f"NOT AUDITED: {package['name']}: {package['skip_reason']}")
    return packages


def _warn(text: str) -> None:
    print(f"!!! {text}", file=sys.stderr)  # noqa: T201


def _line(package: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {mended}"


if __name__ == "__main__":
    sys.exit(main())
