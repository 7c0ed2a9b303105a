"""The private environment of the tests: no setting comes from the developer's environment or `.env`.

`python -m tests.environment COMMAND ...` runs a command in such an environment, on the embedded default.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Variables that every process needs.
_SYSTEM = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

#: Variables that libpq, requests, gunicorn, Celery and OpenTelemetry read by themselves.
_FOREIGN = re.compile(
    r"PG[A-Z]+|GUNICORN_CMD_ARGS|WEB_CONCURRENCY|CELERY_.*|C_FORCE_ROOT|OTEL_.*|\w+_proxy", re.IGNORECASE
)

#: On a busy machine a response may take longer than a sender would wait. A test of response times sets the variable to
#: "", which is the default.
UNHURRIED = {"WEB_ANSWER_TIMEOUT": "20s"}


def known_variables() -> set[str]:
    """Return the names that leadgateway/settings.py reads. They are found in its text, as it must not be loaded yet."""
    source = (ROOT / "leadgateway" / "settings.py").read_text()
    return set(re.findall(r'env\.[a-z]+\(\s*"([A-Z_]+)"', source))


def private_variables(**values: str) -> dict[str, str]:
    """Return a value for every variable of the settings: the given one or the empty string.

    The settings treat an empty value as unset, and it overrides a developer's `.env`.
    """
    names = known_variables()
    if unknown := values.keys() - names:
        raise ValueError(f"the settings know no {', '.join(sorted(unknown))}")
    empty = {f"{name}{suffix}": "" for name in names for suffix in ("", "_FILE")}
    return empty | {"LOG_FORMAT": "json", "SECRET_KEY": "not-a-secret-" * 5} | values


def take_over(**values: str) -> None:
    """Make the environment of this process private."""
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            del os.environ[name]
    os.environ |= private_variables(**values) | {"DJANGO_SETTINGS_MODULE": "leadgateway.settings"}


def of_a_process(**values: str) -> dict[str, str]:
    """Return the environment of a process of the gateway, with the checkout's programs first on PATH."""
    system = {name: os.environ[name] for name in _SYSTEM if name in os.environ}
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), system.get("PATH", os.defpath)])
    return system | {"PATH": path, "PYTHONUNBUFFERED": "1"} | private_variables(**values)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lead-gateway-") as var:
        sys.exit(subprocess.run(sys.argv[1:], env=of_a_process(VAR_DIR=var), cwd=ROOT, check=False).returncode)
