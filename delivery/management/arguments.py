"""What several commands take from their command line, and who typed it."""

import argparse
import os
import pwd
from datetime import timedelta

from leadgateway.env import parse_duration
from leads.storable_text import clean_text


def duration(text: str) -> timedelta:
    """Read an argument such as 500ms, 30s, 1m30s or 2h."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 500ms, 30s, 1m30s or 2h") from error


def reason(text: str) -> str:
    """Read a reason for the trail; it must say something."""
    if not (cleaned := clean_text(text).strip()):
        raise argparse.ArgumentTypeError("it must not be empty")
    return cleaned


def actor() -> str:
    """Return the name under which the trail shows what was ordered here: the user of the operating system."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        name = str(os.getuid())
    return f"cli:{name}"
