"""The environment of the tests: every variable that the settings know is the tests' own, none the developer's.

`python -m tests.environment COMMAND ...` runs a command in such an environment, on the embedded default.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: What a process needs to run at all.
_SYSTEM = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

#: What libpq, requests, gunicorn, Celery and OpenTelemetry would take from the environment by themselves.
_FOREIGN = re.compile(
    r"PG[A-Z]+|GUNICORN_CMD_ARGS|WEB_CONCURRENCY|CELERY_.*|C_FORCE_ROOT|OTEL_.*|\w+_proxy", re.IGNORECASE
)

#: On a machine that is busy with other tests an answer may take longer than a sender would wait. What asks for the
#: time sets the variable to "", which is the default.
UNHURRIED = {"WEB_ANSWER_TIMEOUT": "20s"}


def known_variables() -> set[str]:
    """Return the names that leadgateway/settings.py reads, found in its text: to load it would be too early."""
    source = (ROOT / "leadgateway" / "settings.py").read_text()
    return set(re.findall(r'env\.[a-z]+\(\s*"([A-Z_]+)"', source))


def private_variables(**ours: str) -> dict[str, str]:
    """Return a value for every variable of the settings: ours, or empty.

    An empty value counts as not set, and keeps the one of a developer's `.env` out.
    """
    names = known_variables()
    if unknown := ours.keys() - names:
        raise ValueError(f"the settings know no {', '.join(sorted(unknown))}")
    empty = {f"{name}{suffix}": "" for name in names for suffix in ("", "_FILE")}
    return empty | {"LOG_FORMAT": "json", "SECRET_KEY": "not-a-secret-" * 5} | ours


def take_over(**ours: str) -> None:
    """Make this process's own environment private."""
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            del os.environ[name]
    os.environ |= private_variables(**ours) | {"DJANGO_SETTINGS_MODULE": "leadgateway.settings"}


def of_a_process(**ours: str) -> dict[str, str]:
    """Return the whole environment of a process of the gateway, with the checkout's programs first on PATH."""
    system = {name: os.environ[name] for name in _SYSTEM if name in os.environ}
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), system.get("PATH", os.defpath)])
    return system | {"PATH": path, "PYTHONUNBUFFERED": "1"} | private_variables(**ours)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as var:
        sys.exit(subprocess.run(sys.argv[1:], env=of_a_process(VAR_DIR=var), cwd=ROOT, check=False).returncode)
