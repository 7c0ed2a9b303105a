"""Ask for confirmation at the terminal."""

import sys

from django.core.management.base import CommandError


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
