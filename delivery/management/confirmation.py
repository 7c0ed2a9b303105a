"""Asks before what cannot be undone."""

import sys

from django.core.management.base import CommandError


def confirm(question: str, *, is_asked: bool) -> None:
    """Go on only when somebody says yes, or when nobody `is_asked`.

    :raises CommandError: the answer was no, or there is nobody to ask.
    """
    if not is_asked:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nobody is there to be asked, and nothing was done. --no-input does it without asking.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was done.")
