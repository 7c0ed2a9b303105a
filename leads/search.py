"""Finds leads by what support staff have at hand: exactly, and by index alone."""

import re
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import Q

from leads.normalization import search_keys
from leads.strict_json import clean_text

_LEAD_ID = re.compile(r"#?(?P<id>[0-9]{1,10})", re.ASCII)
#: A correlation id, or its beginning as the list of leads shows it.
_CORRELATION_ID = re.compile(r"[0-9a-f]{8,32}")


def lead_id(text: str) -> int | None:
    """Return the lead's number that somebody typed, with or without a #; None when it is none."""
    match = _LEAD_ID.fullmatch(text.strip())
    return int(match["id"]) if match else None


def matching(text: str) -> Q:
    """Return the condition for the leads that `text` names; no lead meets it when the text is blank.

    The text may be a lead id, a correlation id (its first eight digits will do), an e-mail address, a phone number
    as people write it, a zip code or a full name: they are brought to the form of the search columns. Never raises.
    """
    conditions = [Q(**condition) for condition in (*_by_ids(text), *_by_search_columns(clean_text(text)))]
    return reduce(or_, conditions, Q(pk__in=()))


def _by_ids(text: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    if (number := lead_id(text)) is not None:
        found.append({"pk": number})
    digits = text.strip().replace("-", "").lower()
    if _CORRELATION_ID.fullmatch(digits):
        found.append({"correlation_id__range": (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))})
    return found


def _by_search_columns(text: str) -> list[dict[str, object]]:
    keys = vars(search_keys(dict.fromkeys(("email", "phone", "zipcode", "name"), text)))
    if any(sign.isalpha() for sign in text):
        del keys["phone"]  # the digits in a name or an e-mail address are no phone number
    return [{f"search_{name}": key} for name, key in keys.items() if key is not None]
