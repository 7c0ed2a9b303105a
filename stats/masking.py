"""Mask e-mail addresses and phone numbers in text and JSON, so that they cannot be read but still be distinguished.

Masking too much hides a number that is no phone number; masking too little shows a person. In doubt, mask.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

HIDDEN = "•••"
_HIDDEN_DIGITS = "•••••"

#: A number with fewer digits is a phone number only if its field name says so.
_MIN_DIGITS = 7

#: Field names whose value is an address or a number in any form. Must not match "Immobilie" (mobil) or "Hotel" (tel).
_PERSONAL_NAME = re.compile(
    r"(?P<email>mail)"
    r"|(?P<phone>phone|fon(?![a-z])|(?<![a-z])tel(?![a-z]*emet)|(?<!im)(?<!auto)mobil|handy|fax|rufnummer|whatsapp"
    r"|vorwahl|callback)",
    re.IGNORECASE,
)

_AT = r"(?:@|＠|%40|\\u0040|&#64;|&commat;)"
_LOCAL = r"[^\s@＠\"<>(),;:\[\]{}|%\\/&=?]"
_DOMAIN = r"[^\s@＠\"'<>(),;:\[\]{}|%\\/&=?]"
_SEPARATOR = r"[ \t\u00a0\u2007\u2009\u202f/().\-\u2010-\u2015·_|*]"

#: In joined addresses, "a@b@c", the last part is the host.
_EMAIL = rf"(?:(?<!{_LOCAL}){_LOCAL}++|\"[^\"\n]{{1,64}}\")(?P<at>{_AT})(?:{_LOCAL}++{_AT})*(?P<domain>{_DOMAIN}++)"
_ADDRESS = re.compile(_EMAIL, re.IGNORECASE)

#: Every token in a text that matters; the first alternative that fits wins. The pattern backtracks little, because a
#: payload may be a single word of 200 KB.
_TOKEN = re.compile(
    rf"(?P<email>{_EMAIL})"
    r"|(?P<kept>"
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"  # a UUID
    r"|\b(?=[0-9]*[a-f])[0-9a-f]{32,}\b"  # a hash
    r"|\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?"  # a time
    r"|\b[0-3]?[0-9]\.[01]?[0-9]\.(?:19|20)[0-9]{2}\b"
    r"|(?<![\d.])(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])"  # an IP address
    r"(?:\.(?:[1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])){3}(?![\d.])"
    r")"
    rf"|(?P<phone>(?:[+＋]{_SEPARATOR}{{0,2}}|%2B)?\d(?:{_SEPARATOR}{{0,3}}\d){{{_MIN_DIGITS - 1},}})",
    re.IGNORECASE,
)

#: A text without an at sign and without digits needs no masking. This check takes a tenth of the time.
_AT_SIGN = re.compile(_AT, re.IGNORECASE)
_DIGIT = re.compile(r"\d")

_PLUS = re.compile(r"\s*(\+|＋|%2B)?(.*)", re.IGNORECASE | re.DOTALL)


class _Kind(Enum):
    EMAIL = "e-mail"
    PHONE = "phone"


def mask_email(text: str) -> str:
    """Return an address reduced to its first letter and its host: `j•••@example.com`."""
    return mask_text(text) if "@" in text and _TOKEN.search(text) else HIDDEN if text else ""


def mask_phone(text: str) -> str:
    """Return a number reduced to its first four and last two digits: `+4915•••••78`."""
    prefix, number = _PLUS.match(text).groups()  # type: ignore[union-attr]  # the pattern matches any text
    digits = "".join(filter(str.isdecimal, number))
    if len(digits) < 6:
        return _HIDDEN_DIGITS if text.strip() else text
    shown = digits[:4] if len(digits) >= 11 else ""
    return f"{'+' if prefix else ''}{shown}{_HIDDEN_DIGITS}{digits[-2:]}"


def mask_text(text: str) -> str:
    """Return a text of any length with every address and number masked; ids, times and hashes stay readable."""
    has_address = _AT_SIGN.search(text)
    if len(_DIGIT.findall(text)) < _MIN_DIGITS and not has_address:
        return text
    masked = _TOKEN.sub(_masked_token, text)
    # A second pass finds addresses that begin inside a number or time: "0151 1234567anna@example.com".
    return _ADDRESS.sub(_masked_address, masked) if has_address else masked


def mask_json(value: Any, *, under: Iterable[str] = ()) -> Any:
    """Return a copy of JSON with addresses and numbers masked, both in values and in names.

    :param under: the field names on the path to the value; a name such as `phone` masks everything below it.
    """
    return _masked(value, next(filter(None, map(_kind_of, under)), None))


def _masked_token(match: re.Match[str]) -> str:
    if match["kept"]:
        return match[0]
    if match["phone"]:
        return mask_phone(match[0])
    return _masked_address(match)


def _masked_address(match: re.Match[str]) -> str:
    host = _TOKEN.sub(_masked_token, match["domain"])  # show a host, but no number in its place
    return f"{match[0].lstrip(chr(34))[:1]}{HIDDEN}{match['at']}{host}"


def _masked(value: Any, kind: _Kind | None) -> Any:
    if isinstance(value, str):
        return _masked_text(value, kind)
    if isinstance(value, dict):
        return dict(_masked_members(value, kind))
    if isinstance(value, list):
        return [_masked(item, kind) for item in value]
    return _masked_number(value, kind) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _masked_members(members: dict[str, Any], kind: _Kind | None) -> Iterator[tuple[str, Any]]:
    """Yield the members in order. Names that become equal get a suffix, so that no member is lost."""
    taken = set()
    for name, value in members.items():
        shown = mask_text(name)
        while shown in taken:
            shown += "•"
        taken.add(shown)
        yield shown, _masked(value, kind or _kind_of(name))


def _masked_text(text: str, kind: _Kind | None) -> str:
    if kind is _Kind.EMAIL:
        return mask_email(text)
    if kind is _Kind.PHONE and any(sign.isdecimal() for sign in text):
        return mask_phone(text)
    return mask_text(text)


def _masked_number(number: float, kind: _Kind | None) -> Any:
    """Mask a number that may be a phone number. A fraction makes it a quantity, unless its name says otherwise."""
    if kind is None and (abs(number) < 10 ** (_MIN_DIGITS - 1) or number != number // 1):
        return number
    return mask_phone(str(int(number)) if number == number // 1 else str(number))


def _kind_of(name: str) -> _Kind | None:
    match = _PERSONAL_NAME.search(name)
    if match is None:
        return None
    return _Kind.EMAIL if match["email"] else _Kind.PHONE


@dataclass(frozen=True)
class Masker:
    """Masks text and JSON if it is on, and returns them unchanged if it is off."""

    is_on: bool

    def text(self, text: str) -> str:
        """Return a text as the user may see it."""
        return mask_text(text) if self.is_on else text

    def json(self, value: Any, *, under: Iterable[str] = ()) -> Any:
        """Return JSON as the user may see it; `under` as for `mask_json`."""
        return mask_json(value, under=under) if self.is_on else value


UNMASKED = Masker(is_on=False)
