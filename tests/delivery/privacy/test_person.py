"""Who counts as the person, however they are written. Nothing here needs a database."""

import pytest

from delivery.privacy.person import ERASED, NotAPerson, Person

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
