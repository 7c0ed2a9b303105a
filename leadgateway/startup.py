"""How every entry point begins: with a good configuration, or with a readable refusal."""

import sys
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured

#: Marks the system checks that a server must pass before it starts.
GATEWAY_TAG = "gateway"


def load_settings() -> None:
    """Load the settings; on a bad one print every problem, without a traceback, and exit with EX_CONFIG."""
    from django.conf import settings

    try:
        _ = settings.DEBUG
    except ImproperlyConfigured as error:
        _refuse(str(error))


def check_configuration() -> None:
    """Run the checks that are tagged for a start (the mapping file, the customer's address); exit on an error."""
    from django.core.checks import ERROR, run_checks

    if errors := [message for message in run_checks(tags=[GATEWAY_TAG]) if message.level >= ERROR]:
        _refuse("\n".join(error.msg for error in errors))


def _refuse(problems: str) -> NoReturn:
    print(f"Lead Gateway does not start; the configuration is wrong:\n{problems}", file=sys.stderr)  # noqa: T201
    sys.exit(78)  # EX_CONFIG of sysexits.h
