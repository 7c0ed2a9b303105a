"""Who counts as the person, however they are written. Nothing here needs a database."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from delivery.privacy.person import ERASED, NotAPerson, Person
from leads.normalization import normalize, search_keys
from tests.json_strategies import JSON_VALUES, PHONE_LIKE, TEXTS, objects_with

ANNA = Person.known_by(email=" Anna.Groß+solar@Example.com", phone="0151 / 123 456 78")


def test_a_person_is_known_by_normalized_address_and_number():
    assert (ANNA.email, ANNA.phone) == ("anna.groß+solar@example.com", "+4915112345678")


@pytest.mark.parametrize(
    ("email", "phone"),
    [(None, None), ("", ""), ("anna", None), ("a@b@c", None), ("a b@c", None), (None, "12345"), (None, "anna")],
)
def test_whoever_would_be_found_everywhere_is_refused(email, phone):
    with pytest.raises(NotAPerson):
        Person.known_by(email=email, phone=phone)


NAMED = [
    "anna.groß+solar@example.com",
    "ANNA.GROSS+SOLAR@EXAMPLE.COM".replace("GROSS", "GROß"),
    "write to <Anna.Groß+solar@example.com>, please.",
    "mailto:anna.groß+solar@example.com?subject=x",
    "https://example.org/?mail=anna.groß%2Bsolar%40example.com&x=1",
    "+4915112345678",
    "+49 (0)151 12345678",
    "0049-151-12345678",
    "0151/123 456 78",
    "015112345678",
    "4915112345678",
    "15112345678",
    4915112345678,
    15112345678.0,
    "٠١٥١١٢٣٤٥٦٧٨",
    "call 0151 - 123.456.78 after 5",
    "tel=%2B4915112345678",
    {"deep": [{"er": ["x", {"mail": "anna.groß+solar@example.com"}]}]},
    {"anna.groß+solar@example.com": True},
]

NOT_NAMED = [
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


@pytest.mark.parametrize("value", NAMED, ids=str)
def test_the_person_is_found(value):
    assert ANNA.is_in(value)
    assert ANNA.is_in({"x": [value]})


@pytest.mark.parametrize("value", NOT_NAMED, ids=str)
def test_others_are_not(value):
    assert not ANNA.is_in(value)


def test_one_of_the_two_is_enough_and_the_other_is_not_looked_for():
    by_email = Person.known_by(email="a@b.de", phone=None)
    by_phone = Person.known_by(email=None, phone="+4915112345678")

    assert by_email.is_in("A@b.de")
    assert not by_email.is_in("+4915112345678")
    assert by_phone.is_in("015112345678")
    assert not by_phone.is_in("a@b.de")


def test_a_number_outside_of_all_plans_is_found_by_its_digits():
    person = Person.known_by(email=None, phone="123456")

    assert person.is_in("call 12-34 56")
    assert not person.is_in("1234567")


@pytest.mark.parametrize(
    ("payload", "is_theirs"),
    [
        ({"email": "Anna.Groß+solar@example.com"}, True),
        ({"email": "other@example.com", "phone": "0151 12345678"}, True),
        ({"contact": {"email": "anna.groß+solar@example.com"}}, True),
        ({"email": "other@example.com", "friend": "anna.groß+solar@example.com"}, False),
        ({"phone": "+49681123456", "friend": "anna.groß+solar@example.com"}, False),
    ],
)
def test_a_lead_is_theirs_unless_it_is_somebody_elses(payload, is_theirs):
    assert ANNA.sent(payload) is is_theirs


def test_of_somebody_elses_payload_the_object_that_names_them_is_replaced():
    payload = {
        "email": "other@example.com",
        "house": {"is_owner": True, "neighbour": {"name": "Anna Groß", "phones": ["0151 12345678"], "age": 40}},
        "friends": [{"name": "Bob"}, {"name": "Anna", "mail": "anna.groß+solar@example.com"}],
        "referred_by": "anna.groß+solar@example.com",
        "anna.groß+solar@example.com": 1,
        "numbers": [1, 4915112345678],
    }

    assert ANNA.taken_out_of(payload) == {
        "email": "other@example.com",
        "house": {"is_owner": True, "neighbour": ERASED},
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
    assert not ANNA.is_in(ANNA.taken_out_of(payload))


def test_a_text_that_names_them_goes_as_a_whole():
    assert ANNA.taken_out_of("Anna, 0151 12345678, wants it") == ERASED
    assert ANNA.taken_out_of("someone else") == "someone else"
    assert ANNA.taken_out_of(None) is None


@pytest.mark.parametrize("text", ["0" * 200_000, "a@" * 100_000, "0151 " * 40_000, "151-" * 50_000])
def test_a_text_of_any_length_is_read_in_no_time(text):
    import time

    began = time.perf_counter()
    ANNA.is_in(text)
    assert time.perf_counter() - began < 2


# --- whoever support finds, erasure finds ----------------------------------------------------------------------------

LOCAL_PARTS = st.from_regex(r"[A-Za-zİßΣK0-9.!#$%&*+/=?^_`{|}~\\-]{1,12}", fullmatch=True)
ADDRESSES = st.builds("{}@{}".format, LOCAL_PARTS | st.text(min_size=1, max_size=5), st.sampled_from(["a.de", "Ä.DE"]))


@given(objects_with("note"), ADDRESSES | TEXTS, st.sampled_from(["", " ", "\n\u2003"]))
@example({}, "İpek@a.de", "")
def test_whoever_is_found_by_address_can_be_erased_by_it(others, address, padding):
    payload = others | {"email": f"{padding}{address}{padding}"}
    key = search_keys(payload).email
    assume(key is not None and re.fullmatch(r"[^\s@]+@[^\s@]+", key))

    anna = Person.known_by(email=key, phone=None)

    assert anna.is_in(payload)
    assert anna.is_in(normalize(payload))
    assert anna.sent(payload)
    assert not anna.is_in(anna.taken_out_of(payload))


@given(objects_with("note"), PHONE_LIKE | st.integers(10**5, 10**15))
def test_whoever_is_found_by_number_can_be_erased_by_it(others, number):
    payload = others | {"phone": number}
    # Zeros in front may be a prefix; a number that is hardly more than zeros is nobody's.
    assume(int(re.sub(r"\D", "", str(number)) or 0) >= 100_000)

    anna = Person.known_by(email=None, phone=search_keys(payload).phone)

    assert anna.is_in(payload)
    assert anna.is_in(normalize(payload))
    assert anna.sent(payload)
    assert not anna.is_in(anna.taken_out_of(payload))


@given(JSON_VALUES)
def test_of_any_json_nothing_of_the_person_is_left(value):
    payload = {"a": [value, {"b": "anna.groß+solar@example.com", "c": value}], "d": "0151 12345678", "e": value}

    assert not ANNA.is_in(ANNA.taken_out_of(payload))
    assert ANNA.parts_about(payload)
