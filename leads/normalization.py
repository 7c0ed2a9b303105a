"""Normalize payloads and phone numbers. Normalizing twice gives the same result as normalizing once."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import phonenumbers

DEFAULT_REGION = "DE"

# Lengths of the search columns in characters.
EMAIL_LENGTH = 254
PHONE_LENGTH = 32
ZIPCODE_LENGTH = 16
NAME_LENGTH = 200

_BOOLEANS = {"true": True, "false": False}
_PLUS_BEFORE_FIRST_DIGIT = re.compile(r"\D*[+＋]")


@dataclass(frozen=True)
class SearchKeys:
    """The values by which support staff find a lead. None where the payload has no usable value."""

    email: str | None
    phone: str | None
    zipcode: str | None
    name: str | None


def normalize(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a normalized copy of a JSON object. The payload itself is not changed.

    Strings are trimmed at every depth, and "true" and "false" in any case become booleans. Keys are not changed.
    At the top level, `email` is lower-cased, and `phone`, a string or an integer, is passed to `normalize_phone`.
    """
    result = {key: _normalized(value) for key, value in payload.items()}
    if isinstance(result.get("email"), str):
        result["email"] = result["email"].lower()
    phone = _as_text(result.get("phone"))
    if phone is not None:
        result["phone"] = normalize_phone(phone)
    return result


def normalize_phone(value: str, region: str = DEFAULT_REGION) -> str:
    """Return a phone number in E.164 where the numbering plans allow it, else its digits with a leading +, if any.

    Other characters between the digits are removed, and digits of other scripts become ASCII digits. A value without
    digits gives "". Numbers that only exist within a town or country, such as 110, have no E.164 form. Never raises.

    :param region: the country of numbers without a country code.
    """
    digits = "".join(str(unicodedata.decimal(sign)) for sign in value if sign.isdecimal())
    if digits and _PLUS_BEFORE_FIRST_DIGIT.match(value):
        digits = f"+{digits}"
    number = _e164(digits, region)
    if number == digits:
        return number
    again = _e164(number, region)
    while len(again) < len(number):  # one more national prefix, as in "+49 (0) 0151 12345678"
        number, again = again, _e164(again, region)
    # If a numbering plan rewrites its own numbers, return the digits, which do not change the second time.
    return number if again == number else digits


def search_keys(payload: Mapping[str, Any]) -> SearchKeys:
    """Return the search keys of a raw payload, each cut to the length of its column.

    E-mail and name are lower-cased, white space in the name is collapsed, and the phone is in E.164 where possible.
    The zip code is `zipcode` or else `address.zip`. The name is `name`, or else `first_name` and `last_name`. Never
    raises.
    """
    address = payload.get("address")
    zipcode = _string(_as_text(payload.get("zipcode")))
    if not zipcode and isinstance(address, Mapping):
        zipcode = _string(_as_text(address.get("zip")))
    name = _string(payload.get("name"))
    if not name:
        name = f"{_string(payload.get('first_name'))} {_string(payload.get('last_name'))}"
    return SearchKeys(
        email=_cut(_string(payload.get("email")).lower(), EMAIL_LENGTH),
        phone=_cut(normalize_phone(_as_text(payload.get("phone")) or ""), PHONE_LENGTH),
        zipcode=_cut(zipcode, ZIPCODE_LENGTH),
        name=_cut(" ".join(name.lower().split()), NAME_LENGTH),
    )


def _normalized(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalized(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalized(item) for item in value]
    if isinstance(value, str):
        text = value.strip()
        return _BOOLEANS.get(text.lower(), text)
    return value


def _e164(number: str, region: str) -> str:
    """Return the number in E.164, or unchanged when it is not possible in any numbering plan."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return number
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _as_text(value: object) -> str | None:
    """Return a string unchanged and an integer as its decimal digits, or None for any other value."""
    if isinstance(value, str):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    try:
        return str(value)
    except ValueError:  # Python does not convert integers of more than 4,300 digits
        return None


def _string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _cut(text: str, length: int) -> str | None:
    return text[:length].rstrip() or None
