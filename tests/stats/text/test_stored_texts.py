"""What is stored in English is told in the reader's language; nothing here needs a database."""

import inspect
import re

import pytest
from django.utils.translation import override

from delivery import client, mapping
from leads.webhook import strict_json
from stats.text import stored_texts
from stats.text.stored_texts import translate_stored_text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "connection refused",
        "timed out after 30 s",
        "attempt 5 of 5 failed: timed out after 0.5 s",
        "the customer refused it: HTTP 404",
        "what somebody else wrote: {seconds} {} %s",
        "below the minimum " + "9" * 500,
    ],
)
def test_a_text_is_the_same_in_english(text):
    with override("en"):
        assert translate_stored_text(text) == text


def test_every_text_of_the_client_the_mapping_and_the_json_is_known():
    reasons = set(re.findall(r'_InvalidValueError\("([^"{]+)"\)', inspect.getsource(mapping)))
    errors = {words for _kind, words in client._ERRORS}
    notes = {strict_json.NUL_REPLACED, strict_json.SURROGATE_REPLACED, strict_json.DUPLICATE_KEYS}

    assert len(reasons) == 5
    assert reasons | errors | notes <= stored_texts._TEXTS


def test_a_text_with_something_in_it_is_taken_apart(monkeypatch):
    german = {
        "attempt {number} of {most} failed: {rest}": "Versuch {number} von {most} misslang: {rest}",
        "connection refused": "Verbindung abgelehnt",
    }
    monkeypatch.setattr(stored_texts, "gettext", lambda text: german[text])

    assert translate_stored_text("attempt 2 of 5 failed: connection refused") == (
        "Versuch 2 von 5 misslang: Verbindung abgelehnt"
    )
