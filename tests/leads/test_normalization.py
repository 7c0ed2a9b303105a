import copy

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leads.normalization import SearchKeys, normalize, normalize_phone, search_keys
from tests import payloads
from tests.json_strategies import JSON_VALUES, PHONE_LIKE, TEXTS, objects_with

MOBILE = "+4915112345678"
#: Longer than Python prints, so it needs an id of its own.
UNPRINTABLE = pytest.param(10**5000, id="5001 digits")
NO_KEYS = SearchKeys(email=None, phone=None, zipcode=None, name=None)


# --- phone numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        *("015112345678", "0151 / 123 456 78", "+49 (0)151-12345678", "0049 151 12345678"),
        *("+49 (0) 0151 12345678", "0049 00151 12345678"),
        *("+4915112345678", "(+49) 151 12345678", "Tel.: +49 151 12345678", "＋49 151 12345678"),
        *("０１５１１２３４５６７８", "٠١٥١١٢٣٤٥٦٧٨", "\u202a0151 12345678\u202c", "15112345678", "0151+12345678"),
    ],
)
def test_every_notation_of_a_number_gives_the_same_e164(typed):
    assert normalize_phone(typed) == MOBILE


@pytest.mark.parametrize(
    ("typed", "normalized"),
    [
        ("+49123456789", "+49123456789"),  # possible, though not assigned
        ("0033 1 23 45 67 89", "+33123456789"),
        ("06894 / 12345", "+49689412345"),
        # Not possible in any numbering plan: the digits, with a leading plus.
        ("110", "110"),
        ("+49 110", "+49110"),
        ("+0151 12345678", "+015112345678"),
        ("+999 12345678", "+99912345678"),
        ("0151 12345678 / 0681 1234567", "01511234567806811234567"),
        ("+" + "9" * 5000, "+" + "9" * 5000),
        # No digits.
        *((text, "") for text in ("", "+", "keine Angabe", "²", "½", "\ud800")),
    ],
)
def test_other_numbers_are_e164_if_possible_and_digits_otherwise(typed, normalized):
    assert normalize_phone(typed) == normalized


def test_the_region_completes_numbers_without_a_country_code():
    assert normalize_phone("020 7946 0018", region="GB") == "+442079460018"


def test_a_number_that_its_plan_rewrites_keeps_its_digits(monkeypatch):
    def backwards(number, form):
        return f"+{number.country_code}{str(number.national_number)[::-1]}"

    monkeypatch.setattr(phonenumbers, "format_number", backwards)

    assert normalize_phone("+49 123 456 789") == "+49123456789"


@given(PHONE_LIKE | TEXTS)
@example("+49 0 0 151 1234567")
@example("+39 0 0 6 1234567")
@example("49" * 5)
def test_normalizing_a_phone_twice_changes_nothing(typed):
    once = normalize_phone(typed)

    assert normalize_phone(once) == once


@given(st.text("0123456789", min_size=1, max_size=16), st.sampled_from(["", "0", "00", "+", "+49", "0049", "+390"]))
def test_normalizing_any_digits_twice_changes_nothing(digits, prefix):
    once = normalize_phone(prefix + digits)

    assert normalize_phone(once) == once
    assert once.removeprefix("+").isdecimal()


# --- payloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [" ", "\t\r\n", "\xa0", "\u2028", "\x1c"])
def test_strings_are_trimmed_at_every_depth(space):
    padded = f"{space}Haupt straße{space}"

    assert normalize({"a": padded, "b": {"c": [padded, [padded]]}}) == {
        "a": "Haupt straße",
        "b": {"c": ["Haupt straße", ["Haupt straße"]]},
    }


@pytest.mark.parametrize(("text", "value"), [("true", True), (" TRUE\n", True), ("fAlSe", False)])
def test_boolean_strings_become_booleans_at_every_depth(text, value):
    result = normalize({"a": text, "b": {"c": [text]}})

    assert result["a"] is value
    assert result["b"]["c"][0] is value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("a", value) for value in ("yes", "truе", "falſe", "true!", 1, 0, 1.0, None, True, "")),
        *(("phone", value) for value in (None, True, 151.5, ["0151"], {"mobile": "0151"})),
        pytest.param("phone", 10**5000, id="5001 digits"),
    ],
)
def test_other_values_keep_their_type(field, value):
    result = normalize({field: value})[field]

    assert result == value
    assert type(result) is type(value)


def test_only_email_and_phone_at_the_top_level_are_normalized():
    raw = {"email": " Max@Example.COM ", "Email": "A@B", "phone": " 0151 12345678 ", " TRUE ": 1}
    contact = {"email": "A@B", "phone": "0151 12345678", " Email ": "A"}

    assert normalize(raw | {"contact": contact}) == {
        "email": "max@example.com",
        "Email": "A@B",
        "phone": MOBILE,
        " TRUE ": 1,
        "contact": contact,
    }
    assert normalize({"phone": 15112345678}) == {"phone": MOBILE}
    assert normalize({}) == {}


def test_a_normal_payload_is_unchanged():
    assert normalize(payloads.load("flat")) == payloads.load("flat")


def test_an_export_of_a_form_tool_is_normalized_into_a_copy():
    raw = payloads.load("form_tool_export")

    result = normalize(raw)

    assert result == raw | {
        "first_name": "Erika",
        "email": "erika.mustermann@example.com",
        "phone": MOBILE,
        "comment": "Bitte erst nach 17 Uhr anrufen.",
    }
    result["questions"]["Dachfläche"] = "changed"
    assert raw == payloads.load("form_tool_export")


@given(objects_with("email", "phone", "zipcode", "house"))
@example({"email": " TRUE ", "phone": "false"})
@example({"email": "İΑΣ", "phone": -15112345678})
def test_normalizing_a_payload_twice_changes_nothing(raw):
    before = copy.deepcopy(raw)

    once = normalize(raw)

    assert normalize(once) == once
    assert raw == before


@given(JSON_VALUES)
def test_every_string_is_trimmed_and_no_boolean(value):
    def strings(item):
        if isinstance(item, str):
            yield item
        for child in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
            yield from strings(child)

    for text in strings(normalize({"value": value})):
        assert text == text.strip()
        assert text.lower() not in ("true", "false")


# --- search keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "keys"),
    [
        (
            payloads.load("form_tool_export"),
            SearchKeys("erika.mustermann@example.com", MOBILE, "66111", "erika mustermann"),
        ),
        (payloads.load("nested_address"), SearchKeys("max@example.com", MOBILE, "66763", "max mustermann")),
        ({"phone": 15112345678, "zipcode": 66123}, SearchKeys(None, MOBILE, "66123", None)),
        ({"email": 5, "name": -5, "first_name": 5, "last_name": 5}, NO_KEYS),
    ],
    ids=str,
)
def test_search_keys_of_a_payload(payload, keys):
    assert search_keys(payload) == keys


def test_the_zipcode_at_the_top_level_takes_precedence():
    assert search_keys({"zipcode": " 66123 ", "address": {"zip": "66999"}}).zipcode == "66123"


@pytest.mark.parametrize("zipcode", [None, " ", ["66123"], True])
def test_without_a_usable_zipcode_that_of_the_address_is_used(zipcode):
    assert search_keys({"zipcode": zipcode, "address": {"zip": 66999}}).zipcode == "66999"


def test_the_full_name_takes_precedence_over_its_parts():
    assert search_keys({"name": "Erika  MUSTERMANN", "first_name": "E", "last_name": "M"}).name == "erika mustermann"


@pytest.mark.parametrize(("first", "last"), [("Erika", None), ("", "Erika"), (" Erika\t", 7)])
def test_one_part_of_a_name_is_enough(first, last):
    assert search_keys({"first_name": first, "last_name": last}).name == "erika"


@pytest.mark.parametrize("value", [None, True, 1.5, ["66123"], {"zip": "66123"}, " \n", UNPRINTABLE])
def test_unusable_values_have_no_search_keys(value):
    fields = ("email", "phone", "zipcode", "address", "name", "first_name", "last_name")

    assert search_keys(dict.fromkeys(fields, value)) in (NO_KEYS, SearchKeys(None, None, "66123", None))
    assert search_keys({field: value for field in fields if field != "address"}) == NO_KEYS


def test_each_key_is_cut_to_its_column():
    long = {"email": "A" * 999, "phone": "1" * 999, "zipcode": "6" * 999, "name": "B" * 999}

    assert search_keys(long) == SearchKeys(email="a" * 254, phone="1" * 32, zipcode="6" * 16, name="b" * 200)
    assert search_keys({"name": "b" * 199 + " c"}).name == "b" * 199
    assert len(search_keys({"name": "İ" * 200}).name or "") == 200, "lower-casing can lengthen a text"


@given(objects_with("email", "phone", "zipcode", "address", "name", "first_name", "last_name"))
def test_search_keys_of_any_payload_fit_their_columns(raw):
    keys = search_keys(raw)

    for key, width in ((keys.email, 254), (keys.phone, 32), (keys.zipcode, 16), (keys.name, 200)):
        assert key is None or 0 < len(key) <= width


@given(objects_with("phone"))
def test_the_search_key_of_a_phone_is_the_delivered_phone(raw):
    delivered = normalize(raw).get("phone")

    assert search_keys(raw).phone == (delivered[:32] or None if isinstance(delivered, str) else None)
