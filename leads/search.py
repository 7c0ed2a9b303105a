"""Finds leads by what support staff have at hand, by index alone."""

import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Func, Q, Value

from leads.models import InboundLead, Words
from leads.normalization import NAME_LENGTH, search_keys
from leads.webhook.strict_json import clean_text

_LEAD_ID = re.compile(r"#?(?P<id>[0-9]{1,10})", re.ASCII)
#: A correlation id, or its beginning as the list of leads shows it.
_CORRELATION_ID = re.compile(r"[0-9a-f]{8,32}")
#: What stands between the words of a name; the same signs as in `leads.models.Words`.
_SIGNS_BETWEEN_WORDS = " -./@_'"
_BETWEEN_WORDS = re.compile(rf"[\s{re.escape(_SIGNS_BETWEEN_WORDS)}]+")


def lead_id(text: str) -> int | None:
    """Return the lead's number that somebody typed, with or without a #; None when it is none."""
    match = _LEAD_ID.fullmatch(text.strip())
    return int(match["id"]) if match else None


def matching(text: str) -> Q:
    """Return the condition for the leads that `text` names; no lead meets it when the text is blank.

    The text may be a lead id, a correlation id (its first eight digits will do), an e-mail address, a phone number
    as people write it, a zip code, or words of a name in any order, each whole or its beginning. Never raises.
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
    if keys.phone and not has_letters:  # the digits in a name or an e-mail address are no phone number
        yield Q(search_phone=keys.phone)
    if keys.zipcode and any(sign.isdecimal() for sign in text):
        yield Q(search_zipcode=keys.zipcode)
    if has_letters and "@" not in text and (words := _words(text)):
        yield _by_name(words)


def _words(text: str) -> list[str]:
    """Return the words of a name; an initial would only be found in too many."""
    words = _BETWEEN_WORDS.split(text[:NAME_LENGTH].lower())
    return [word for word in words if len(word) > 1 and any(sign.isalnum() for sign in word)]


def _by_name(words: list[str]) -> Q:
    if connection.vendor == "postgresql":
        return Q(_HasWords(Words("search_name"), Value(" & ".join(map(_lexeme, words)))))
    # By the ids, so that SQLite reads the names' index from end to end and not the leads with their payloads.
    names = InboundLead.objects.filter(*(Q(search_name__regex=_pattern(word)) for word in words))
    return Q(pk__in=names.values("pk"))


class _HasWords(Func):
    """Whether a text in PostgreSQL's form for finding words meets a query."""

    template = "%(expressions)s)"
    arg_joiner = " @@ to_tsquery('simple'::regconfig, "
    output_field = BooleanField()


def _is_beginning(word: str) -> bool:
    """Tell whether longer words are meant too: too many begin with the same two letters."""
    return len(word) > 2


def _lexeme(word: str) -> str:
    quoted = "'" + word.replace("\\", "\\\\") + "'"
    return f"{quoted}:*" if _is_beginning(word) else quoted


def _pattern(word: str) -> str:
    between = f"[{re.escape(_SIGNS_BETWEEN_WORDS)}]"
    return f"(^|{between}){re.escape(word)}" + ("" if _is_beginning(word) else f"($|{between})")
