"""E-mail addresses and phone numbers are masked everywhere."""

import json
from copy import deepcopy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stats.masking import Masker, mask_email, mask_json, mask_phone, mask_text
from tests.json_strategies import ANY_TEXT, JSON_VALUES

TEXTS = [
    ("john@example.com", "j•••@example.com"),
    ("Erika <erika.m+x@mail.example.de>, bitte", "Erika <e•••@mail.example.de>, bitte"),
    ("mailto:o'brien@example.ie", "mailto:o•••@example.ie"),
    ('"erika m"@example.com', "e•••@example.com"),
    ("/form?mail=erika%40example.com&x=1", "/form?mail=e•••%40example.com&x=1"),
    ("erika\\u0040example.com", "e•••\\u0040example.com"),
    ("müller@straße.de", "m•••@straße.de"),
    ("+4915112345678", "+4915•••••78"),
    ("Ruf 0151/123 456-78 an", "Ruf 0151•••••78 an"),
    ("0049 (151) 12345678", "0049•••••78"),
    ("tel:%2B4915112345678", "tel:+4915•••••78"),
    ("tel0151123456", "tel•••••56"),
    ("٠١٥١١٢٣٤٥٦٧٨", "٠١٥١•••••٧٨"),
    ("2026-01-21 0151 1234567", "2026-01-21 0151•••••67"),
    ("203.0.113.9 0151 1234567", "203.0.113.9 0151•••••67"),
]
UNMASKED_TEXTS = [
    "",
    "5 attempts, 30001 ms, 66123",
    "2026-01-21T10:30:00.123Z",
    "2026-01-21 10:30",
    "born 01.02.1990",
    "550e8400-e29b-41d4-a716-446655440000",
    "12345678-1234-1234-1234-123456789012",
    "17021452" * 7 + "abcdef12",
    "203.0.113.9",
    "a @ b, @home",
]


@pytest.mark.parametrize(("text", "masked"), [*TEXTS, *((text, text) for text in UNMASKED_TEXTS)])
def test_only_addresses_and_numbers_in_a_text_are_masked(text, masked):
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    ("mask", "text", "masked"),
    [
        (mask_email, "john@example.com", "j•••@example.com"),
        (mask_email, "no address", "•••"),
        (mask_email, "", ""),
        (mask_email, "a@@b", "•••"),
        (mask_phone, "+4915112345678", "+4915•••••78"),
        (mask_phone, "0151/123 456-78", "0151•••••78"),
        (mask_phone, "0151 1234", "•••••34"),
        (mask_phone, "110", "•••••"),
        (mask_phone, "", ""),
    ],
)
def test_an_address_or_a_number_keeps_its_beginning_and_its_end(mask, text, masked):
    assert mask(text) == masked


def test_a_masked_number_hides_at_least_four_digits():
    for digits in range(1, 30):
        shown = [sign for sign in mask_phone(("1234567890" * 3)[:digits]) if sign.isdigit()]

        assert len(shown) <= max(0, digits - 4), digits


JSON = [
    ({"phone": "12 34"}, {"phone": "•••••"}),
    ({"Telefon": "06 81 23"}, {"Telefon": "•••••23"}),
    ({"mobilePhone": 15112345678}, {"mobilePhone": "1511•••••78"}),
    (
        {"phone": {"cc": "DE", "number": 12345, "extra": [7]}},
        {"phone": {"cc": "DE", "number": "•••••", "extra": ["•••••"]}},
    ),
    ({"email": ["erika", "e@x.de", True, None]}, {"email": ["•••", "e•••@x.de", True, None]}),
    ({"E-Mail": "Erika"}, {"E-Mail": "•••"}),
    ({"x": {"y": [{"z": "ruf 0151 1234567"}]}}, {"x": {"y": [{"z": "ruf 0151•••••67"}]}}),
    ({"n": 4915112345678}, {"n": "4915•••••78"}),
    ({"n": 4915112345678.0}, {"n": "4915•••••78"}),
    ({"n": -4915112345678}, {"n": "4915•••••78"}),
    ({"erika@x.de": 1}, {"e•••@x.de": 1}),
    ({"0151 1234567": {"a": 1}}, {"0151•••••67": {"a": 1}}),
    ({"erika@x.de": 1, "egon@x.de": 2}, {"e•••@x.de": 1, "e•••@x.de•": 2}),
    ("e@x.de", "e•••@x.de"),
    ({"phone": 10**300, "n": -(10**300)}, {"phone": "1000•••••00", "n": "1000•••••00"}),
    *(
        (unmasked, unmasked)
        for unmasked in (
            {"zipcode": "66123", "house": {"is_owner": True}, "rooms": 123456, "lat": 49.2401572},
            {"immobilie": "123456", "automobil": "12", "hotel": "123 45", "telemetry": "12345"},
            {"phone": True, "email": None, "fax": []},
            None,
            [],
        )
    ),
]


@pytest.mark.parametrize(("value", "masked"), JSON)
def test_json_is_masked_by_names_and_by_form_in_a_copy(value, masked):
    before = deepcopy(value)

    assert mask_json(value) == masked
    assert value == before


def test_the_names_that_lead_to_a_value_count():
    assert mask_json("12 34", under=["contact", "phone"]) == "•••••"
    assert mask_json("12 34", under=["contact"]) == "12 34"


PIECES_OF_LONG_TEXTS = ["a", "1 ", "@", "a@", '"', "1-", "12345 a", "+ ", "%2B", "1.1.1.", "2026-01-", "f" * 31 + " "]


@pytest.mark.timeout(30)  # an algorithm that is not linear would take minutes
@pytest.mark.parametrize("piece", PIECES_OF_LONG_TEXTS)
def test_a_text_of_200_kb_is_masked_in_time(piece):
    masked = mask_text(piece * (200_000 // len(piece)) + " e@x.de")

    assert masked.endswith("e•••@x.de") or piece in ("@", "a@", "+ ")


def test_a_masker_that_is_off_shows_everything():
    off, on = Masker(is_on=False), Masker(is_on=True)

    assert (off.text("e@x.de"), off.json({"phone": "1"})) == ("e@x.de", {"phone": "1"})
    assert (on.text("e@x.de"), on.json({"phone": "1"})) == ("e•••@x.de", {"phone": "•••••"})


# --- with random surroundings -----------------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from(
        ["Tel. ", "0151 123", "2026-01-21 10:30", "203.0.113.9", "@", ".", "-", " ", '"', "/", "<", ">", "1"]
    )
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=3),
    max_size=5,
).map("".join)
ADDRESS = "erika.mustermann@example.com"
NUMBER = "+4915112345678"


@given(PIECES, PIECES)
@example("2026-01-21 10:30", "")
@example("0151 1234567.", "")
@example("203.0.113.9", "")
def test_an_address_is_masked_in_any_surroundings(before, after):
    assert "mustermann@" not in mask_text(f"{before}{ADDRESS}{after}")


@given(PIECES, PIECES)
@example("x@", "")
def test_a_number_is_masked_in_any_surroundings(before, after):
    masked = mask_text(f"{before}{NUMBER}{after}")

    assert "15112345678" not in masked


@given(ANY_TEXT)
def test_a_masked_text_is_not_masked_any_further(text):
    assert mask_text(mask_text(text)) == mask_text(text)


@given(JSON_VALUES, st.sampled_from(["email", "phone", "note", "x"]), st.booleans())
def test_no_personal_data_is_left_in_json(value, name, beside):
    holder = [value, {name: [ADDRESS, NUMBER, int(NUMBER), {ADDRESS: NUMBER}]}]
    shown = json.dumps(mask_json({name: holder} if beside else holder))

    assert "mustermann" not in shown
    assert "15112345678" not in shown
