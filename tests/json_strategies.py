"""Hypothesis strategies for every JSON value that Python can represent. Strings that cause problems are likely."""

from typing import Any

from hypothesis import strategies as st

# Any code point, including lone surrogates, which JSON can represent as escapes.
ANY_TEXT = st.text(st.characters(exclude_categories=()))
WHITE_SPACE = st.text("\x00 \t\r\n\x1c\x85\xa0\u2003\u2028\u200b\ufeff", max_size=3)
BOOLEAN_TEXT = st.sampled_from(["true", "TRUE", "False", "falſe", "tru e"])
DIGITS = st.text("0123456789", max_size=300)
PHONE_LIKE = st.text("+＋0123456789٣४９ ()/-.\u200b", max_size=24)
PADDED = st.builds("{}{}{}".format, WHITE_SPACE, BOOLEAN_TEXT | PHONE_LIKE | ANY_TEXT, WHITE_SPACE)

TEXTS = ANY_TEXT | PADDED | BOOLEAN_TEXT | PHONE_LIKE | DIGITS
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([10**400, -(10**400)])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON_VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=8,
)


def objects_with(*fields: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for JSON objects with other fields, in which each given field is absent or has any value."""
    known = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, JSON_VALUES))
    return st.builds(lambda other, fields: other | fields, st.dictionaries(TEXTS, JSON_VALUES, max_size=3), known)
