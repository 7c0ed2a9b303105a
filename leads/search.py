"""Find leads by id, e-mail, phone, zip code or name. Every search uses an index."""

import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Func, Q, Value

from leads.models import InboundLead, Words
from leads.normalization import NAME_LENGTH, search_keys
from leads.storable_text import clean_text

_LEAD_ID = re.compile(r"#?(?P<id>[0-9]{1,10})", re.ASCII)
#: A correlation id, or its beginning as the list of leads shows it, without hyphens.
_CORRELATION_ID = re.compile(r"[0-9a-f]{8,32}")
#: Separators between the words of a name, the same as in `leads.models.Words`.
_SEPARATORS = " -./@_'"
_BETWEEN_WORDS = re.compile(rf"[\s{re.escape(_SEPARATORS)}]+")


def lead_id(text: str) -> int | None:
    """Return the lead id that a text consists of, with or without a #, or None when it is not one."""
    match = _LEAD_ID.fullmatch(text.strip())
    return int(match["id"]) if match else None


def matching(text: str) -> Q:
    """Return the condition for the leads that `text` matches. A blank text matches none. Never raises.

    The text may be a lead id, a correlation id or its first eight digits, an e-mail address, a phone number in any
    notation, a zip code, or words of a name in any order, whole or abbreviated.
    """
    conditions = [*_by_ids(text), *_by_search_columns(clean_text(text))]
    return reduce(or_, conditions, Q(pk__in=()))


def _by_ids(text: str) -> Iterator[Q]:
    if (number := lead_id(text)) is not None:
        yield Q(pk=number)
    digits = text.strip().replace("-", "").lower()
    if _CORRELATION_ID.fullmatch(digits):
        yield Q(correlation_id__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))


def _by_search_columns(text: str) -> Iterator[Q]:
    keys = search_keys(dict.fromkeys(("email", "phone", "zipcode"), text))
    has_letters = any(sign.isalpha() for sign in text)
    if keys.email and "@" in text:
        yield Q(search_email=keys.email)
    if keys.phone and not has_letters:  # digits in a name or an e-mail address are not a phone number
        yield Q(search_phone=keys.phone)
    if keys.zipcode and any(sign.isdecimal() for sign in text):
        yield Q(search_zipcode=keys.zipcode)
    if has_letters and "@" not in text and (words := _words(text)):
        yield _by_name(words)


def _words(text: str) -> list[str]:
    """Return the words of a name without initials, which match too many names."""
    words = _BETWEEN_WORDS.split(text[:NAME_LENGTH].lower())
    return [word for word in words if len(word) > 1 and any(sign.isalnum() for sign in word)]


def _by_name(words: list[str]) -> Q:
    if connection.vendor == "postgresql":
        return Q(_HasWords(Words("search_name"), Value(" & ".join(map(_lexeme, words)))))
    # Select ids, so that SQLite scans the index of names and not the rows with their payloads.
    names = InboundLead.objects.filter(*(Q(search_name__regex=_pattern(word)) for word in words))
    return Q(pk__in=names.values("pk"))


class _HasWords(Func):
    """Whether a PostgreSQL text search vector matches a query."""

    template = "%(expressions)s)"
    arg_joiner = " @@ to_tsquery('simple'::regconfig, "
    output_field = BooleanField()


def _matches_as_prefix(word: str) -> bool:
    """Return whether a word also matches longer words. Two letters would match too many."""
    return len(word) > 2


def _lexeme(word: str) -> str:
    quoted = "'" + word.replace("\\", "\\\\") + "'"
    return f"{quoted}:*" if _matches_as_prefix(word) else quoted


def _pattern(word: str) -> str:
    between = f"[{re.escape(_SEPARATORS)}]"
    return f"(^|{between}){re.escape(word)}" + ("" if _matches_as_prefix(word) else f"($|{between})")
