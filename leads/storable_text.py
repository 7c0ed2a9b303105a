"""Text that PostgreSQL can store. NUL characters and lone surrogates are legal in JSON and in Python, but not there."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Replace each character that PostgreSQL cannot store by U+FFFD."""
    return _UNSTORABLE.sub(REPLACEMENT, text)
