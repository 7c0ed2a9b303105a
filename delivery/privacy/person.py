"""A person as they are known: by e-mail address, phone number, or both. Recognises them in any text or JSON."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import phonenumbers

from leads.normalization import normalize_phone, search_keys

#: What stands where something of the person was.
ERASED = "[erased]"

#: A shorter number would be found where no number is.
_FEWEST_DIGITS = 6

#: A longer text is not a number, but may have one in it.
_LONGEST_NUMBER = 100
_NO_DIGIT = re.compile(r"\D+")

_AT = r"(?:@|＠|%40|\\u0040|&#64;|&commat;)"
_PLUS = r"(?:\+|%2B)"
#: What people and forms write between the digits of a number.
_BETWEEN = r"[\s()/.·–\-]{0,3}"


class NotAPerson(ValueError):
    """What was given is no e-mail address or no phone number. The message does not quote it."""


@dataclass(frozen=True)
class Person:
    """Somebody to look for.

    :param email: in lower case.
    :param phone: in E.164, or at least its digits.
    """

    email: str | None = None
    phone: str | None = None

    @classmethod
    def known_by(cls, *, email: str | None, phone: str | None) -> "Person":
        """Return the person who has an address, a number, or either of both, as they may be typed.

        :raises NotAPerson: neither is given, or one would be found everywhere.
        """
        address = email.strip().lower() if email else None
        number = normalize_phone(phone) if phone else None
        if address is None and number is None:
            raise NotAPerson("an e-mail address or a phone number is needed")
        if address is not None and not re.fullmatch(r"[^\s@]+@[^\s@]+", address):
            raise NotAPerson("that is no e-mail address")
        if number is not None and sum(sign.isdecimal() for sign in str(phone)) < _FEWEST_DIGITS:
            raise NotAPerson(f"that is no phone number: it needs {_FEWEST_DIGITS} digits")
        return cls(address, number)

    def is_in(self, value: Any) -> bool:
        """Tell whether the person is named in JSON at any depth, in names of members too."""
        if isinstance(value, dict):
            return any(self.is_in(key) or self.is_in(item) for key, item in value.items())
        if isinstance(value, list):
            return any(map(self.is_in, value))
        text = _as_text(value)
        return text is not None and (self._is_written_in(text) or self._is_the_number(text))

    def sent(self, payload: dict[str, Any]) -> bool:
        """Tell whether a lead that names the person is theirs, and not somebody else's."""
        keys = search_keys(payload)
        if keys.email is None and keys.phone is None:
            return self.is_in(payload)
        by_email = self.email is not None and keys.email == self.email
        return by_email or (self.phone is not None and keys.phone == self.phone)

    def taken_out_of(self, value: Any) -> Any:
        """Return JSON without the person: whatever names them is replaced, with the object that it is part of.

        Of the outermost object, or list, only the members that name them are.
        """
        if isinstance(value, dict):
            return {
                (ERASED if self.is_in(key) else key): self._taken_out_of_member(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._taken_out_of_member(item) for item in value]
        return ERASED if self.is_in(value) else value

    def parts_about(self, value: Any) -> list[Any]:
        """Return what `taken_out_of` would replace."""
        if isinstance(value, dict):
            keys = [{key: item} for key, item in value.items() if self.is_in(key)]
            return keys + [part for item in value.values() for part in self._parts_of_member(item)]
        if isinstance(value, list):
            return [part for item in value for part in self._parts_of_member(item)]
        return [value] if self.is_in(value) else []

    def _taken_out_of_member(self, item: Any) -> Any:
        return ERASED if self._is_about_them(item) else self.taken_out_of(item)

    def _parts_of_member(self, item: Any) -> list[Any]:
        return [item] if self._is_about_them(item) else self.parts_about(item)

    def _is_about_them(self, item: Any) -> bool:
        """Tell whether an object names the person itself: then what is beside the name is about them too."""
        return isinstance(item, dict) and any(
            self.is_in(value) for value in (*item, *item.values()) if not isinstance(value, dict)
        )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join([*_address(self.email), *_number(self.phone)]), re.IGNORECASE)

    def _is_written_in(self, text: str) -> bool:
        # In lower case too: the small form of "İ" is two characters, which no pattern takes for the one.
        return bool(self._pattern.search(text) or (not text.isascii() and self._pattern.search(text.lower())))

    def _is_the_number(self, text: str) -> bool:
        """Compare as a whole: other scripts' digits, and signs between the digits that nobody thinks of."""
        if self.phone is None or not _FEWEST_DIGITS <= len(text) <= _LONGEST_NUMBER:
            return False
        digits = _NO_DIGIT.sub("", text)[-_FEWEST_DIGITS:]  # numbering plans, which take their time, change the front
        return bool(digits) and int(digits) == int(self.phone[-_FEWEST_DIGITS:]) and normalize_phone(text) == self.phone


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or abs(value) > 1e20:
        return None
    return str(int(value))


def _address(email: str | None) -> list[str]:
    if email is None:
        return []
    local, _, domain = email.rpartition("@")
    local = re.escape(local).replace(r"\+", _PLUS)
    # Not a part of a longer address: anna@example.com is neither joanna@example.com nor anna@example.com.de.
    return [rf"(?<![\w.+\-]){local}{_AT}{re.escape(domain)}(?![\w\-])(?!\.\w)"]


def _number(phone: str | None) -> list[str]:
    if phone is None:
        return []
    try:
        parsed = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return [rf"(?<!\d){_spelled(phone.lstrip('+'))}(?!\d)"]
    country = rf"(?:\+|00|%2B)?{_BETWEEN}{_spelled(str(parsed.country_code))}{_BETWEEN}(?:0{_BETWEEN})?"
    return [rf"(?<!\d)(?:{country}|0{_BETWEEN})?{_spelled(phonenumbers.national_significant_number(parsed))}(?!\d)"]


def _spelled(digits: str) -> str:
    return _BETWEEN.join(digits)
