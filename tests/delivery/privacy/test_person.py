"""How a person is recognised in text and JSON. No test here needs a database."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from delivery.privacy.person import ERASED, InvalidPerson, Person
from leads.normalization import normalize, search_keys
from tests.json_strategies import JSON_VALUES, PHONE_LIKE, TEXTS, objects_with

ANNA = Person.from_contact(email=" Anna.Groß+solar@Example.com", phone="0151 / 123 456 78")


def test_email_and_phone_are_normalized():
    assert (ANNA.email, ANNA.phone) == ("anna.groß+solar@example.com", "+4915112345678")


@pytest.mark.parametrize(
    ("email", "phone"),
    [(None, None), ("", ""), ("anna", None), ("a@b@c", None), ("a b@c", None), (None, "12345")],
)
def test_contact_data_that_would_match_unrelated_data_is_invalid(email, phone):
    with pytest.raises(InvalidPerson):
        Person.from_contact(email=email, phone=phone)


MENTIONS = [
    "anna.groß+solar@example.com",
    "ANNA.GROSS+SOLAR@EXAMPLE.COM".replace("GROSS", "GROß"),
    "write to <Anna.Groß+solar@example.com>, please.",
    "mailto:anna.groß+solar@example.com?subject=x",
    "https://example.org/?mail=anna.groß%2Bsolar%40example.com&x=1",
    "+4915112345678",
    "+49 (0)151 12345678",
    "0049-151-12345678",
    "0151/123 456 78",
    "15112345678",
    4915112345678,
    15112345678.0,
    "٠١٥١١٢٣٤٥٦٧٨",
    "call 0151 - 123.456.78 after 5",
    "tel=%2B4915112345678",
    {"deep": [{"er": ["x", {"mail": "anna.groß+solar@example.com"}]}]},
    {"anna.groß+solar@example.com": True},
]

NO_MENTIONS = [
    "joanna.groß+solar@example.com",
    "anna.groß+solar@example.com.de",
    "anna.groß@example.com",
    "anna.groß+solar@example.community",
    "+4915112345679",
    "9015112345678",
    "0151123456780",
    "12345678",
    151.12345678,
    True,
    None,
    "",
    1e300,
    {"a": [], "b": {}},
]


@pytest.mark.parametrize("value", MENTIONS, ids=str)
def test_mentions_are_found(value):
    assert ANNA.is_mentioned_in({"x": [value]})


@pytest.mark.parametrize("value", NO_MENTIONS, ids=str)
def test_similar_values_are_not_mentions(value):
    assert not ANNA.is_mentioned_in(value)


def test_either_email_or_phone_is_enough():
    by_email = Person.from_contact(email="a@b.de", phone=None)
    by_phone = Person.from_contact(email=None, phone="+4915112345678")

    assert by_email.is_mentioned_in("A@b.de")
    assert not by_email.is_mentioned_in("+4915112345678")
    assert by_phone.is_mentioned_in("015112345678")
    assert not by_phone.is_mentioned_in("a@b.de")


def test_a_number_outside_of_all_numbering_plans_is_found_by_its_digits():
    person = Person.from_contact(email=None, phone="123456")

    assert person.is_mentioned_in("call 12-34 56")
    assert not person.is_mentioned_in("1234567")


@pytest.mark.parametrize(
    ("payload", "is_own"),
    [
        ({"email": "Anna.Groß+solar@example.com"}, True),
        ({"email": "other@example.com", "phone": "0151 12345678"}, True),
        ({"contact": {"email": "anna.groß+solar@example.com"}}, True),
        ({"email": "other@example.com", "friend": "anna.groß+solar@example.com"}, False),
        ({"phone": "+49681123456", "friend": "anna.groß+solar@example.com"}, False),
    ],
)
def test_a_lead_belongs_to_the_person_in_its_top_level_fields(payload, is_own):
    assert ANNA.owns(payload) is is_own


def test_nested_objects_that_mention_the_person_are_replaced():
    payload = {
        "email": "other@example.com",
        "house": {"is_owner": True, "contact": {"name": "Anna Groß", "phones": ["0151 12345678"], "age": 40}},
        "friends": [{"name": "Bob"}, {"name": "Anna", "mail": "anna.groß+solar@example.com"}],
        "referred_by": "anna.groß+solar@example.com",
        "anna.groß+solar@example.com": 1,
        "numbers": [1, 4915112345678],
    }

    assert ANNA.redact(payload) == {
        "email": "other@example.com",
        "house": {"is_owner": True, "contact": ERASED},
        "friends": [{"name": "Bob"}, ERASED],
        "referred_by": ERASED,
        ERASED: 1,
        "numbers": [1, ERASED],
    }
    assert ANNA.parts_about(payload) == [
        {"anna.groß+solar@example.com": 1},
        {"name": "Anna Groß", "phones": ["0151 12345678"], "age": 40},
        {"name": "Anna", "mail": "anna.groß+solar@example.com"},
        "anna.groß+solar@example.com",
        4915112345678,
    ]
    assert not ANNA.is_mentioned_in(ANNA.redact(payload))


def test_a_text_that_mentions_the_person_is_replaced_as_a_whole():
    assert ANNA.redact("Anna, 0151 12345678, wants it") == ERASED
    assert ANNA.redact("someone else") == "someone else"
    assert ANNA.redact(None) is None


@pytest.mark.parametrize("text", ["0" * 200_000, "a@" * 100_000, "0151 " * 40_000, "151-" * 50_000])
def test_long_texts_are_searched_without_backtracking(text):  # which would exceed the timeout of all tests
    assert not ANNA.is_mentioned_in(text)


# --- a person found by support staff can be erased -------------------------------------------------------------------

LOCAL_PARTS = st.from_regex(r"[A-Za-zİßΣK0-9.!#$%&*+/=?^_`{|}~\\-]{1,12}", fullmatch=True)
ADDRESSES = st.builds("{}@{}".format, LOCAL_PARTS | st.text(min_size=1, max_size=5), st.sampled_from(["a.de", "Ä.DE"]))


def assert_can_be_erased(anna, payload):
    assert anna.is_mentioned_in(payload)
    assert anna.is_mentioned_in(normalize(payload))
    assert anna.owns(payload)
    assert not anna.is_mentioned_in(anna.redact(payload))


@given(objects_with("note"), ADDRESSES | TEXTS, st.sampled_from(["", " ", "\n\u2003"]))
@example({}, "İpek@a.de", "")
def test_a_lead_found_by_email_can_be_erased_by_it(others, address, padding):
    payload = others | {"email": f"{padding}{address}{padding}"}
    key = search_keys(payload).email
    assume(key is not None and re.fullmatch(r"[^\s@]+@[^\s@]+", key))

    assert_can_be_erased(Person.from_contact(email=key, phone=None), payload)


@given(objects_with("note"), PHONE_LIKE | st.integers(10**5, 10**15))
def test_a_lead_found_by_phone_can_be_erased_by_it(others, number):
    payload = others | {"phone": number}
    # Leading zeros may be a prefix, so a number of almost only zeros is not a valid phone number.
    assume(int(re.sub(r"\D", "", str(number)) or 0) >= 100_000)

    assert_can_be_erased(Person.from_contact(email=None, phone=search_keys(payload).phone), payload)


@given(JSON_VALUES)
def test_redacted_json_mentions_the_person_nowhere(value):
    payload = {"a": [value, {"b": "anna.groß+solar@example.com", "c": value}], "d": "0151 12345678", "e": value}

    assert not ANNA.is_mentioned_in(ANNA.redact(payload))
    assert ANNA.parts_about(payload)
