"""Parse the JSON of a lead strictly: one object in UTF-8 that PostgreSQL can store. Errors never quote the body."""

import json
import math
import re
import sys
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

MAX_DEPTH = 64
#: Maximum number of characters of a number, with sign and exponent. Python refuses integers of over 4,300 digits.
MAX_NUMBER_LENGTH = 1000

# Codes of notes: what was changed to make the payload storable.
NUL_REPLACED = "nul_replaced"
SURROGATE_REPLACED = "surrogate_replaced"
DUPLICATE_KEYS = "duplicate_keys"  # the last value is kept

#: A string, or the rest of the body when the string does not end. Here and below, nothing that must match follows a
#: repeated group, so that none backtracks. Possessive groups are no alternative: in Python 3.11.2 they lose characters.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"?')
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
#: Runs of escapes to keep or to replace. Escaped backslashes are matched, because what follows them is no escape.
_ESCAPES = re.compile(
    r"(?P<kept>(?:\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+)"
    r"|(?P<nul>(?:\\u0000)+)"
    r"|(?P<surrogate>(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|\\u[dD][c-fC-F][0-9a-fA-F]{2})+)"
)


class MalformedJSON(ValueError):
    """The body is not one acceptable JSON object. The message gives the reason and never quotes the body."""


@dataclass(frozen=True)
class ParsedObject:
    """A storable JSON object, and the codes of what was changed to make it storable."""

    payload: dict[str, Any]
    notes: tuple[str, ...]


def parse_object(body: bytes) -> ParsedObject:
    """Parse one JSON object in UTF-8, with or without a byte order mark.

    NUL characters and lone surrogates are legal JSON that PostgreSQL cannot store. They are replaced by U+FFFD, also
    in keys. Of duplicate keys, the last one is kept. The notes contain a code for each of these changes.

    :raises MalformedJSON: the body is anything but one object, or contains NaN, Infinity, a number beyond float range
        or of more than MAX_NUMBER_LENGTH characters, or is nested deeper than MAX_DEPTH.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Without `from None`, a logged traceback would quote the body.
        raise MalformedJSON("not UTF-8") from None
    if not text.strip():
        raise MalformedJSON("empty")
    # The decoder is recursive, so check the depth first. Most leads have too few brackets to exceed it.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _refuse_deep_nesting(body)
    notes: list[str] = []
    # Before decoding, so that keys which become equal are handled as any other duplicate keys.
    if _SUSPECT_ESCAPE.search(text):
        text, notes = _clean_escapes(text)
    payload, has_duplicates = _load(text)
    if has_duplicates:
        notes.append(DUPLICATE_KEYS)
    return ParsedObject(payload, tuple(notes))


def _refuse_deep_nesting(body: bytes) -> None:
    brackets = _STRING.sub(b"", body).translate(None, _NOT_A_BRACKET)
    if any(depth > MAX_DEPTH for depth in accumulate(map(_STEP.__getitem__, brackets))):
        raise MalformedJSON(f"nesting deeper than {MAX_DEPTH}")


def _clean_escapes(text: str) -> tuple[str, list[str]]:
    """Replace escapes of unstorable characters by U+FFFD, and return the text and the codes of the changes."""
    found = {match.lastgroup for match in _ESCAPES.finditer(text)}
    notes = {"nul": NUL_REPLACED, "surrogate": SURROGATE_REPLACED}
    return _ESCAPES.sub(_clean_run, text), [note for kind, note in notes.items() if kind in found]


def _clean_run(match: re.Match[str]) -> str:
    if match.lastgroup == "kept":
        return match[0]
    return r"\ufffd" * (len(match[0]) // len(r"\ufffd"))


def _load(text: str) -> tuple[dict[str, Any], bool]:
    """Return the decoded object, and whether any object in it has duplicate keys."""
    has_duplicates = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        built = dict(pairs)
        has_duplicates = has_duplicates or len(built) < len(pairs)
        return built

    try:
        value = json.loads(
            text,
            object_pairs_hook=build,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise MalformedJSON(f"invalid JSON at character {error.pos}") from None
    if not isinstance(value, dict):
        raise MalformedJSON("not an object")
    return value, has_duplicates


def _parse_int(token: str) -> int:
    if len(token) > sys.float_info.max_10_exp:  # shorter integers are always within float range
        _parse_float(token)
    return int(token)


def _parse_float(token: str) -> float:
    if len(token) > MAX_NUMBER_LENGTH:
        raise MalformedJSON(f"number longer than {MAX_NUMBER_LENGTH} characters")
    number = float(token)
    if not math.isfinite(number):
        raise MalformedJSON("number beyond float range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJSON("NaN or Infinity")
