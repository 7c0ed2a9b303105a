"""One way of writing for what people type in many ways. Normalizing twice gives what normalizing once gave."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import phonenumbers

DEFAULT_REGION = "DE"

# Widths of the search columns, in characters.
EMAIL_LENGTH = 254
PHONE_LENGTH = 32
ZIPCODE_LENGTH = 16
NAME_LENGTH = 200

_BOOLEANS = {"true": True, "false": False}
_PLUS_BEFORE_THE_FIRST_DIGIT = re.compile(r"\D*[+＋]")


@dataclass(frozen=True)
class SearchKeys:
    """What support staff find a lead by; None where the lead gave nothing usable."""

    email: str | None
    phone: str | None
    zipcode: str | None
    name: str | None


def normalize(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a normalized copy of a JSON object; the payload itself is left alone.

    Strings are trimmed at every depth, and "true" and "false" in any case become booleans; keys stay as they are.
    At the top level `email` is lower-cased and `phone`, a string or an integer, goes through `normalize_phone`.
    """
    result = {key: _normalized(value) for key, value in payload.items()}
    if isinstance(result.get("email"), str):
        result["email"] = result["email"].lower()
    phone = _as_text(result.get("phone"))
    if phone is not None:
        result["phone"] = normalize_phone(phone)
    return result


def normalize_phone(value: str, region: str = DEFAULT_REGION) -> str:
    """Return a phone number in E.164 where the numbering plans allow it, else its digits with a leading + kept.

    `region` is the country whose numbers may come without a country code. Signs and letters between the digits
    are dropped, other scripts' digits become ASCII ones; a value without a digit gives "". Numbers that exist only
    within a town or country, such as 110, have no E.164 form and stay as they are. Never raises.
    """
    digits = _dialled_digits(value)
    number = _e164(digits, region)
    again = _e164(number, region)
    while len(again) < len(number):  # one more national prefix, as in "+49 (0) 0151 12345678"
        number, again = again, _e164(again, region)
    # Should a plan rewrite its own numbers, the digits at least are the same the second time.
    return number if again == number else digits


def search_keys(payload: Mapping[str, Any]) -> SearchKeys:
    """Return what the lead can be found by, from the raw payload, each cut to the width of its column.

    E-mail and name are lower-cased, white space in the name is folded, the phone is in E.164 where possible. The zip
    code is `zipcode` or else `address.zip`, the name is `name` or else `first_name` and `last_name`. Never raises.
    """
    return SearchKeys(
        email=_cut(_string(payload.get("email")).lower(), EMAIL_LENGTH),
        phone=_cut(normalize_phone(_as_text(payload.get("phone")) or ""), PHONE_LENGTH),
        zipcode=_cut(_zipcode(payload), ZIPCODE_LENGTH),
        name=_cut(_name(payload), NAME_LENGTH),
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


def _dialled_digits(value: str) -> str:
    """Reduce to ASCII digits, with a + in front when one came before the first digit."""
    digits = "".join(str(unicodedata.decimal(sign)) for sign in value if sign.isdecimal())
    has_plus = _PLUS_BEFORE_THE_FIRST_DIGIT.match(value) is not None
    return f"+{digits}" if digits and has_plus else digits


def _e164(number: str, region: str) -> str:
    """Return the number in E.164, or as it is when no numbering plan has room for it."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return number
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _as_text(value: Any) -> str | None:
    """Return a string as it is and an integer as its decimal digits; None for everything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    try:
        return str(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return None


def _string(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _zipcode(payload: Mapping[str, Any]) -> str:
    address = payload.get("address")
    nested = address.get("zip") if isinstance(address, Mapping) else None
    return _string(_as_text(payload.get("zipcode"))) or _string(_as_text(nested))


def _name(payload: Mapping[str, Any]) -> str:
    parts = (_string(payload.get("first_name")), _string(payload.get("last_name")))
    name = _string(payload.get("name")) or " ".join(parts)
    return " ".join(name.lower().split())


def _cut(text: str, length: int) -> str | None:
    return text[:length].rstrip() or None
