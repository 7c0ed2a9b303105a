"""Check the configuration at the start of every process, and exit with a readable message when it is wrong."""

import sys
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured

#: The tag of the system checks that must pass before a server starts.
GATEWAY_TAG = "gateway"


def load_settings() -> None:
    """Load the settings. On an error, print every problem without a traceback and exit with EX_CONFIG."""
    from django.conf import settings

    try:
        _ = settings.DEBUG
    except ImproperlyConfigured as error:
        _refuse(str(error))


def check_configuration() -> None:
    """Run the checks tagged GATEWAY_TAG, such as that of the mapping file. On an error, exit with EX_CONFIG."""
    from django.core.checks import ERROR, run_checks

    if errors := [message for message in run_checks(tags=[GATEWAY_TAG]) if message.level >= ERROR]:
        _refuse("\n".join(error.msg for error in errors))


def _refuse(problems: str) -> NoReturn:
    print(f"Lead Gateway does not start; the configuration is wrong:\n{problems}", file=sys.stderr)  # noqa: T201
    sys.exit(78)  # EX_CONFIG of sysexits.h
