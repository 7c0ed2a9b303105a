"""Look up known vulnerabilities of every installed package in OSV: `python -m tests.dependency_audit`.

The audit is part of `make lint` and fails on every vulnerability. Without access to OSV it prints a warning and does
not fail, so that work is possible without a network.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OSV = "https://api.osv.dev/v1/query"

#: For one response.
_TIMEOUT_S = 5

_OPTIONS = ("--format=json", "--desc=off", "--progress-spinner=off", f"--timeout={_TIMEOUT_S}")


def main() -> int:
    """Audit this environment, or the packages in --path, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=OSV)
    parser.add_argument("--path", type=Path, help="a directory of installed packages, instead of this environment")
    options = parser.parse_args()
    report = _report(options.url, ["--path", str(options.path)] if options.path else [])
    if report is None:
        return 0
    found = [_line(package, vulnerability) for package in report for vulnerability in package.get("vulns", [])]
    audited = [package for package in report if "skip_reason" not in package]
    print("\n".join([*found, f"{len(audited)} packages, {len(found)} known vulnerabilities"]))  # noqa: T201
    return 1 if found else 0


def _report(url: str, where: list[str]) -> list[dict[str, Any]] | None:
    """Return pip-audit's result for each package. Print a warning and return None when OSV is unavailable."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service=osv", f"--osv-url={url}", *_OPTIONS]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip() or "no response").splitlines()[-1]
        _warn(f"NOT AUDITED: {url} is unavailable ({reason[:200]}).")
        return None
    for package in packages:
        if "skip_reason" in package:
            _warn(f"NOT AUDITED: {package['name']}: {package['skip_reason']}")
    return packages


def _warn(text: str) -> None:
    print(f"!!! {text}", file=sys.stderr)  # noqa: T201


def _line(package: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    fixed_in = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed_in}"


if __name__ == "__main__":
    sys.exit(main())
