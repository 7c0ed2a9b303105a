"""Recognise a person in any text or JSON by an email address, a phone number, or both."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import phonenumbers

from leads.normalization import normalize_phone, search_keys

#: Replaces what mentions an erased person.
ERASED = "[erased]"

#: Shorter numbers would match numbers that are not phone numbers.
_MIN_DIGITS = 6

#: A longer text is not a phone number as a whole, although it may contain one.
_MAX_NUMBER_LENGTH = 100

#: Larger numbers are not phone numbers, and a float does not hold all of their digits.
_MAX_NUMBER = 1e20

_NON_DIGITS = re.compile(r"\D+")

#: The spellings of "@" and "+" in URLs, JSON and HTML.
_AT = r"(?:@|＠|%40|\\u0040|&#64;|&commat;)"
_PLUS = r"(?:\+|%2B)"

#: What people and forms write between the digits of a number.
_SEPARATORS = r"[\s()/.·–\-]{0,3}"


class InvalidPerson(ValueError):
    """The email address or phone number is missing or not valid. The message does not quote it."""


@dataclass(frozen=True)
class Person:
    """A person to search for. Text mentions the person if it contains the email address or the phone number.

    :param email: the email address in lower case.
    :param phone: the phone number in E.164, or only digits if it is not part of a numbering plan.
    """

    email: str | None = None
    phone: str | None = None

    @classmethod
    def from_contact(cls, *, email: str | None, phone: str | None) -> "Person":
        """Return the person with this email address, this phone number, or both, in any spelling.

        :raises InvalidPerson: both are missing, or one is not valid and would match unrelated data.
        """
        address = email.strip().lower() if email else None
        number = normalize_phone(phone) if phone else None
        if address is None and number is None:
            raise InvalidPerson("an email address or a phone number is required")
        if address is not None and not re.fullmatch(r"[^\s@]+@[^\s@]+", address):
            raise InvalidPerson("the email address is not valid")
        if number is not None and sum(character.isdecimal() for character in str(phone)) < _MIN_DIGITS:
            raise InvalidPerson(f"the phone number is not valid: it needs at least {_MIN_DIGITS} digits")
        return cls(address, number)

    def is_mentioned_in(self, value: object) -> bool:
        """Return whether JSON mentions the person, at any depth and also in the names of members."""
        if isinstance(value, dict):
            return any(self.is_mentioned_in(key) or self.is_mentioned_in(item) for key, item in value.items())
        if isinstance(value, list):
            return any(map(self.is_mentioned_in, value))
        text = _as_text(value)
        return text is not None and (self._is_part_of(text) or self._has_number(text))

    def owns(self, payload: dict[str, Any]) -> bool:
        """Return whether a lead that mentions the person is the person's own, judged by its raw payload.

        A payload without an email address and phone number at the top level belongs to every person it mentions.
        """
        keys = search_keys(payload)
        if keys.email is None and keys.phone is None:
            return self.is_mentioned_in(payload)
        same_email = self.email is not None and keys.email == self.email
        return same_email or (self.phone is not None and keys.phone == self.phone)

    def redact(self, value: Any) -> Any:
        """Return JSON in which everything about the person is replaced by ERASED.

        A nested object that mentions the person is replaced as a whole: what is beside the name is about the person
        too. In the outermost object or list, only the members that mention the person are replaced.
        """
        if isinstance(value, dict):
            return {
                (ERASED if self.is_mentioned_in(key) else key): self._redact_member(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._redact_member(item) for item in value]
        return ERASED if self.is_mentioned_in(value) else value

    def parts_about(self, value: object) -> list[object]:
        """Return the parts of JSON that `redact` would replace."""
        if isinstance(value, dict):
            keys = [{key: item} for key, item in value.items() if self.is_mentioned_in(key)]
            return keys + [part for item in value.values() for part in self._parts_of_member(item)]
        if isinstance(value, list):
            return [part for item in value for part in self._parts_of_member(item)]
        return [value] if self.is_mentioned_in(value) else []

    def _redact_member(self, item: Any) -> Any:
        return ERASED if self._is_about_person(item) else self.redact(item)

    def _parts_of_member(self, item: object) -> list[object]:
        return [item] if self._is_about_person(item) else self.parts_about(item)

    def _is_about_person(self, item: object) -> bool:
        """Return whether an object mentions the person directly, and not in a nested object."""
        return isinstance(item, dict) and any(
            self.is_mentioned_in(value) for value in (*item, *item.values()) if not isinstance(value, dict)
        )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join([*_email_patterns(self.email), *_phone_patterns(self.phone)]), re.IGNORECASE)

    def _is_part_of(self, text: str) -> bool:
        # Also in lower case: "İ" becomes two characters there, which IGNORECASE does not match with the one.
        return bool(self._pattern.search(text) or (not text.isascii() and self._pattern.search(text.lower())))

    def _has_number(self, text: str) -> bool:
        """Return whether the whole text is the person's number, with digits of any script and any separators."""
        if self.phone is None or not _MIN_DIGITS <= len(text) <= _MAX_NUMBER_LENGTH:
            return False
        # Normalizing is slow, so compare the last digits first: normalizing changes only the beginning of a number.
        digits = _NON_DIGITS.sub("", text)[-_MIN_DIGITS:]
        return bool(digits) and int(digits) == int(self.phone[-_MIN_DIGITS:]) and normalize_phone(text) == self.phone


def _as_text(value: object) -> str | None:
    """Return a JSON string, or a whole number as text; None for other values."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if value == value // 1 and abs(value) <= _MAX_NUMBER else None


def _email_patterns(email: str | None) -> Iterator[str]:
    if email is None:
        return
    local, _, domain = email.rpartition("@")
    local = re.escape(local).replace(r"\+", _PLUS)
    # Not as part of a longer address: anna@example.com is neither joanna@example.com nor anna@example.com.de.
    yield rf"(?<![\w.+\-]){local}{_AT}{re.escape(domain)}(?![\w\-])(?!\.\w)"


def _phone_patterns(phone: str | None) -> Iterator[str]:
    if phone is None:
        return
    try:
        parsed = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        yield rf"(?<!\d){_with_separators(phone.lstrip('+'))}(?!\d)"
        return
    country_code = _with_separators(str(parsed.country_code))
    international = rf"(?:\+|00|%2B)?{_SEPARATORS}{country_code}{_SEPARATORS}(?:0{_SEPARATORS})?"
    number = _with_separators(phonenumbers.national_significant_number(parsed))
    yield rf"(?<!\d)(?:{international}|0{_SEPARATORS})?{number}(?!\d)"


def _with_separators(digits: str) -> str:
    return _SEPARATORS.join(digits)
