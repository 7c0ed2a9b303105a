"""How the leads of an order or an export were chosen, in the language of whoever reads it; it is stored in English.

Such as `Status: Failed; Received: Last 7 days; a search`. The texts are those of the lists' filters.
"""

import re

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from stats.text.stored_texts import translate_stored_text

_NUMBER_OF_LEADS = re.compile(r"([0-9,]+) leads, chosen one by one")
_IDS = re.compile(r"leads? ([0-9, ]+)")


def told(stored: str) -> str:
    """Return a stored selection in the active language; what is not known in it stays as it is."""
    return "; ".join(map(_part, stored.split("; ")))


def _part(text: str) -> str:
    if match := _NUMBER_OF_LEADS.fullmatch(text):
        return _("{n} leads, chosen one by one").format(n=match[1])
    if match := _IDS.fullmatch(text):
        return ngettext("lead {ids}", "leads {ids}", match[1].count(",") + 1).format(ids=match[1])
    title, colon, choice = text.partition(": ")
    return f"{_title(title)}: {_choice(choice)}" if colon else _text(text)


def _title(text: str) -> str:
    known_as = text[:1].lower() + text[1:]
    title = _text(known_as)
    return text if title == known_as else str(capfirst(title))


def _choice(text: str) -> str:
    """Return what a filter was set to; days stand behind it in brackets."""
    name, bracket, days = text.partition(" (")
    return f"{_text(name)}{bracket}{days}"


def _text(text: str) -> str:
    return _(translate_stored_text(text)) if text else ""  # of nothing, gettext tells about the catalogue
