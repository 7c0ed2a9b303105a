"""What the gateway stores in English, such as why an attempt failed, in the language of whoever reads it."""

import re

from django.utils.translation import gettext, gettext_noop

#: From the client, the mapping, the pipeline and the strict JSON, in their words.
_TEXTS = frozenset(
    {
        gettext_noop("connection closed without an answer"),
        gettext_noop("connection refused"),
        gettext_noop("connection reset"),
        gettext_noop("incomplete answer"),
        gettext_noop("not an HTTP answer"),
        gettext_noop("headers of the answer are too long"),
        gettext_noop("invalid header in the answer"),
        gettext_noop("a header of the request cannot be sent: check the token"),
        gettext_noop("CUSTOMER_API_URL is not valid"),
        gettext_noop("host name not found"),
        gettext_noop("host name lookup failed"),
        gettext_noop("the outcome of the last attempt is unknown"),
        gettext_noop("null"),
        gettext_noop("empty"),
        gettext_noop("not text"),
        gettext_noop("not a number"),
        gettext_noop("not one of the allowed values"),
        gettext_noop("NUL characters replaced"),
        gettext_noop("lone surrogates replaced"),
        gettext_noop("duplicate keys, the last value kept"),
    }
)

#: Texts with something in them. `rest` is a stored text again.
_FORMS = (
    gettext_noop("timed out after {seconds} s"),
    gettext_noop("below the minimum {bound}"),
    gettext_noop("above the maximum {bound}"),
    gettext_noop("TLS error: {rest}"),
    gettext_noop("unexpected error: {rest}"),
    gettext_noop("the customer refused it: {rest}"),
    gettext_noop("attempt {number} of {most} failed: {rest}"),
)
_PATTERNS = [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(form))), form) for form in _FORMS]

#: None of them is longer; what is, somebody else wrote.
_LONGEST = 300


def translate_stored_text(text: str) -> str:
    """Return a stored text in the active language; one that the gateway did not write as it is."""
    if text in _TEXTS:
        return gettext(text)
    for pattern, form in _PATTERNS:
        if len(text) <= _LONGEST and (match := pattern.fullmatch(text)):
            return gettext(form).format(
                **{name: translate_stored_text(value) for name, value in match.groupdict().items()}
            )
    return text
