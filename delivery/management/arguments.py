"""What several commands share: arguments, the confirmation, and the name of the user for the audit log."""

import argparse
import os
import pwd
import sys
from datetime import timedelta

from django.core.management.base import CommandError, CommandParser

from leadgateway.env import parse_duration
from leads.storable_text import clean_text


def add_reason(parser: CommandParser, *, required: bool = True) -> None:
    """Add `--reason`, which is recorded in the audit log."""
    parser.add_argument(
        "--reason",
        required=required,
        type=_reason,
        metavar="TEXT",
        help="reason for the audit log; don't include personal data",
    )


def add_no_input(parser: CommandParser) -> None:
    """Add `--no-input`, which sets the option `interactive` to false."""
    parser.add_argument("--no-input", action="store_false", dest="interactive", help="don't ask for confirmation")


def confirm(question: str) -> None:
    """Ask a yes-or-no question and return if the answer is yes.

    :raises CommandError: the answer is not yes, or there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise CommandError(
            "Nothing was changed: there is no terminal to confirm at. Use --no-input to skip the confirmation."
        )
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")


def duration(text: str) -> timedelta:
    """Parse an argument such as 500ms, 30s, 1m30s or 2h."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 500ms, 30s, 1m30s or 2h") from error


def actor() -> str:
    """Return the actor to record in the audit log: `cli:` and the name of the operating system's user."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        name = str(os.getuid())
    return f"cli:{name}"


def _reason(text: str) -> str:
    if not (cleaned := clean_text(text).strip()):
        raise argparse.ArgumentTypeError("it must not be empty")
    return cleaned
