"""JSON that may enter: one object in UTF-8 that PostgreSQL can hold, or a refusal that never quotes what was sent."""

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn

MAX_DEPTH = 64
#: Characters of one number, sign and exponent included. Python itself refuses integers from 4,300 digits on.
MAX_NUMBER_LENGTH = 1000

NUL_REPLACED = "NUL characters replaced"
SURROGATE_REPLACED = "lone surrogates replaced"
DUPLICATE_KEYS = "duplicate keys, the last value kept"

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: A string, or the rest of the body when it does not end. Nothing that must match follows a repeated group, here and
#: below, so none goes back; a possessive one would lose characters: Python 3.11.2, Debian 12's, repeats groups wrongly.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"?')
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
#: Runs of escapes: to keep, or to replace. An escaped backslash is matched so that what follows is no escape.
_ESCAPES = re.compile(
    r"(?P<kept>(?:\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+)"
    r"|(?P<nul>(?:\\u0000)+)"
    r"|(?P<surrogate>(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|\\u[dD][c-fC-F][0-9a-fA-F]{2})+)"
)


class MalformedJSON(ValueError):
    """The body is not one JSON object that may enter. The message says why and never quotes the body."""


@dataclass(frozen=True)
class ParsedObject:
    """A JSON object as it may be stored, and a sentence on everything that was changed to make it so."""

    payload: dict[str, Any]
    notes: tuple[str, ...]


def parse_object(body: bytes) -> ParsedObject:
    """Read one JSON object in UTF-8, with or without a byte order mark.

    NUL characters and lone surrogates are legal JSON that PostgreSQL cannot hold: they become U+FFFD, in keys too.
    The last of equal keys wins. Both are told in the notes.

    :raises MalformedJSON: for everything else than one object, and for NaN and infinities, numbers beyond float
        range or of more than MAX_NUMBER_LENGTH characters, and nesting deeper than MAX_DEPTH.
    """
    text = _decode(body)
    _refuse_deep_nesting(body)
    text, notes = _clean_escapes(text)
    payload, has_duplicates = _load(text)
    if has_duplicates:
        notes.append(DUPLICATE_KEYS)
    return ParsedObject(payload, tuple(notes))


def payload_hash(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of the canonical JSON: keys sorted, no white space, UTF-8.

    `1` and `1.0` are different payloads: what was sent is hashed, not what it means.
    """
    canonical = json.dumps(dict(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def clean_text(text: str) -> str:
    """Replace what a PostgreSQL text cannot hold, NUL and lone surrogates, by U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def _decode(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Without `from None` a logged traceback would quote the body.
        raise MalformedJSON("not UTF-8") from None
    if not text.strip():
        raise MalformedJSON("empty")
    return text


def _refuse_deep_nesting(body: bytes) -> None:
    # The decoder recurses, so this comes before it. Most leads have so few brackets that counting them is enough.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NOT_A_BRACKET)
    if any(depth > MAX_DEPTH for depth in accumulate(map(_STEP.__getitem__, brackets))):
        raise MalformedJSON(f"nesting deeper than {MAX_DEPTH}")


def _clean_escapes(text: str) -> tuple[str, list[str]]:
    # Before the decoder and not after it: so keys that become equal are duplicates like any others, in their order.
    if not _SUSPECT_ESCAPE.search(text):
        return text, []
    found = {match.lastgroup for match in _ESCAPES.finditer(text)}
    notes = {"nul": NUL_REPLACED, "surrogate": SURROGATE_REPLACED}
    return _ESCAPES.sub(_clean_run, text), [note for kind, note in notes.items() if kind in found]


def _clean_run(match: re.Match[str]) -> str:
    if match.lastgroup == "kept":
        return match[0]
    return r"\ufffd" * (len(match[0]) // len(r"\ufffd"))


def _load(text: str) -> tuple[dict[str, Any], bool]:
    """Decode the text to an object, and tell whether any object in it had a key twice."""
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
    if len(token) > sys.float_info.max_10_exp:  # shorter ones are always within float range
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
