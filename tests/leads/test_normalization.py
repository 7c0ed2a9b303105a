import copy

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leads.normalization import SearchKeys, normalize, normalize_phone, search_keys
from tests import payloads
from tests.json_strategies import JSON_VALUES, PHONE_LIKE, TEXTS, objects_with

MOBILE = "+4915112345678"
# Longer than Python prints, so it needs an id of its own.
UNPRINTABLE = pytest.param(10**5000, id="5001 digits")
NOBODY = SearchKeys(email=None, phone=None, zipcode=None, name=None)


# Phone numbers


@pytest.mark.parametrize(
    "typed",
    [
        *("015112345678", "0151 / 123 456 78", "+49 (0)151-12345678", "0049 151 12345678"),
        *("+49 (0) 0151 12345678", "0049 00151 12345678"),
        *("+4915112345678", "(+49) 151 12345678", "Tel.: +49 151 12345678", "＋49 151 12345678"),
        *("０１５１１２３４５６７８", "٠١٥١١٢٣٤٥٦٧٨", "\u202a0151 12345678\u202c", "15112345678"),
    ],
)
def test_every_way_to_type_a_number_gives_the_same_e164(typed):
    assert normalize_phone(typed) == MOBILE


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("+49123456789", "+49123456789"),  # possible, though assigned to nobody
        ("0033 1 23 45 67 89", "+33123456789"),
        ("+1 (212) 555-0100", "+12125550100"),
        ("06894 / 12345", "+49689412345"),
    ],
)
def test_a_number_with_room_in_a_numbering_plan_becomes_e164(typed, kept):
    assert normalize_phone(typed) == kept


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("110", "110"),
        ("+49 110", "+49110"),
        ("1", "1"),
        ("+0151 12345678", "+015112345678"),
        ("+999 12345678", "+99912345678"),
        ("0151 12345678 / 0681 1234567", "01511234567806811234567"),
        ("1" * 5000, "1" * 5000),
        ("+" + "9" * 300, "+" + "9" * 300),
    ],
)
def test_any_other_number_keeps_its_digits_and_a_leading_plus(typed, kept):
    assert normalize_phone(typed) == kept


@pytest.mark.parametrize("typed", ["", "+", "keine Angabe", "  ", "²", "½", "\ud800"])
def test_a_phone_without_a_digit_is_empty(typed):
    assert normalize_phone(typed) == ""


def test_a_plus_after_the_first_digit_means_nothing():
    assert normalize_phone("0151+12345678") == MOBILE


def test_the_region_says_whose_numbers_come_without_a_country_code():
    assert normalize_phone("020 7946 0018", region="GB") == "+442079460018"


def test_a_plan_that_rewrites_its_own_numbers_leaves_the_digits(monkeypatch):
    def backwards(number, form):
        return f"+{number.country_code}{str(number.national_number)[::-1]}"

    monkeypatch.setattr(phonenumbers, "format_number", backwards)

    assert normalize_phone("+49 123 456 789") == "+49123456789"


@given(PHONE_LIKE | TEXTS)
@example("+49 0 0 151 1234567")
@example("+39 0 0 6 1234567")
@example("49" * 5)
def test_a_phone_normalized_twice_is_normalized_once(typed):
    once = normalize_phone(typed)

    assert normalize_phone(once) == once


@given(st.text("0123456789", min_size=1, max_size=16), st.sampled_from(["", "0", "00", "+", "+49", "0049", "+390"]))
def test_digits_in_any_order_are_normalized_once(digits, prefix):
    once = normalize_phone(prefix + digits)

    assert normalize_phone(once) == once
    assert once.removeprefix("+").isdecimal()


# Whole payloads


@pytest.mark.parametrize("space", [" ", "\t\r\n", "\xa0", "\u2003", "\u2028", "\x1c", "\x85"])
def test_strings_are_trimmed_at_every_depth(space):
    padded = f"{space}Haupt straße{space}"

    assert normalize({"a": padded, "b": {"c": [padded, [padded]]}}) == {
        "a": "Haupt straße",
        "b": {"c": ["Haupt straße", ["Haupt straße"]]},
    }


@pytest.mark.parametrize(("text", "value"), [("true", True), (" TRUE\n", True), ("False", False), ("fAlSe", False)])
def test_boolean_strings_become_booleans_at_every_depth(text, value):
    result = normalize({"a": text, "b": {"c": [text]}})

    assert result["a"] is value
    assert result["b"]["c"][0] is value


@pytest.mark.parametrize("value", ["yes", "ja", "truе", "falſe", "true!", 1, 0, 1.0, None, True, "", "t rue"])
def test_nothing_else_becomes_a_boolean(value):
    result = normalize({"a": value})["a"]

    assert result == value
    assert type(result) is type(value)


def test_keys_stay_as_they_are():
    assert normalize({" TRUE ": 1, "b": {" Email ": "A"}}) == {" TRUE ": 1, "b": {" Email ": "A"}}


def test_only_the_email_at_the_top_level_is_lower_cased():
    assert normalize({"email": " Max@Example.COM ", "Email": "A@B", "contact": {"email": "A@B"}}) == {
        "email": "max@example.com",
        "Email": "A@B",
        "contact": {"email": "A@B"},
    }


def test_only_the_phone_at_the_top_level_is_standardised():
    assert normalize({"phone": " 0151 12345678 ", "contact": {"phone": "0151 12345678"}}) == {
        "phone": MOBILE,
        "contact": {"phone": "0151 12345678"},
    }


def test_a_phone_sent_as_an_integer_is_its_digits():
    assert normalize({"phone": 15112345678}) == {"phone": MOBILE}


@pytest.mark.parametrize("phone", [None, True, False, 151.5, ["0151"], {"mobile": "0151"}, UNPRINTABLE])
def test_a_phone_of_another_kind_is_left_alone(phone):
    result = normalize({"phone": phone})["phone"]

    assert result == phone
    assert type(result) is type(phone)


def test_a_payload_without_phone_and_email_gets_none():
    assert normalize({}) == {}


def test_the_payload_itself_is_not_changed():
    raw = payloads.load("form_tool_export")

    result = normalize(raw)
    result["questions"]["Dachfläche"] = "changed"

    assert raw == payloads.load("form_tool_export")


def test_the_seeds_payload_is_normal_already():
    assert normalize(payloads.load("flat")) == payloads.load("flat")


def test_a_form_tools_export_is_normalized():
    raw = payloads.load("form_tool_export")

    assert normalize(raw) == raw | {
        "first_name": "Erika",
        "email": "erika.mustermann@example.com",
        "phone": MOBILE,
        "comment": "Bitte erst nach 17 Uhr anrufen.",
    }


@given(objects_with("email", "phone", "zipcode", "house"))
@example({"email": " TRUE ", "phone": "false"})
@example({"email": "İΑΣ", "phone": -15112345678})
def test_a_payload_normalized_twice_is_normalized_once(raw):
    before = copy.deepcopy(raw)

    once = normalize(raw)

    assert normalize(once) == once
    assert raw == before


@given(JSON_VALUES)
def test_no_string_is_left_untrimmed_or_boolean_like(value):
    def strings(item):
        if isinstance(item, str):
            yield item
        for child in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
            yield from strings(child)

    for text in strings(normalize({"value": value})):
        assert text == text.strip()
        assert text.lower() not in ("true", "false")


# Search keys


def test_a_form_tools_export_is_found_by_what_staff_type():
    assert search_keys(payloads.load("form_tool_export")) == SearchKeys(
        email="erika.mustermann@example.com", phone=MOBILE, zipcode="66111", name="erika mustermann"
    )


def test_a_nested_address_gives_the_zipcode():
    assert search_keys(payloads.load("nested_address")) == SearchKeys(
        email="max@example.com", phone=MOBILE, zipcode="66763", name="max mustermann"
    )


def test_the_zipcode_at_the_top_wins_over_the_address():
    assert search_keys({"zipcode": " 66123 ", "address": {"zip": "66999"}}).zipcode == "66123"


@pytest.mark.parametrize("zipcode", [None, "", " ", ["66123"], True])
def test_an_unusable_zipcode_gives_way_to_the_address(zipcode):
    assert search_keys({"zipcode": zipcode, "address": {"zip": 66999}}).zipcode == "66999"


def test_the_full_name_wins_over_its_parts():
    assert search_keys({"name": "Erika  MUSTERMANN", "first_name": "E", "last_name": "M"}).name == "erika mustermann"


@pytest.mark.parametrize(("first", "last"), [("Erika", None), ("", "Erika"), (" Erika\t", 7)])
def test_half_a_name_is_a_name(first, last):
    assert search_keys({"first_name": first, "last_name": last}).name == "erika"


def test_numbers_are_found_as_digits():
    assert search_keys({"phone": 15112345678, "zipcode": 66123}) == SearchKeys(
        email=None, phone=MOBILE, zipcode="66123", name=None
    )


@pytest.mark.parametrize("value", [None, True, False, 1.5, [], ["66123"], {}, {"zip": "66123"}, "", " \n", UNPRINTABLE])
def test_what_cannot_be_searched_gives_none(value):
    fields = ("email", "phone", "zipcode", "address", "name", "first_name", "last_name")

    assert search_keys(dict.fromkeys(fields, value)) in (NOBODY, SearchKeys(None, None, "66123", None))
    assert search_keys({field: value for field in fields if field != "address"}) == NOBODY


@pytest.mark.parametrize("value", [5, -5])
def test_an_integer_is_no_email_and_no_name(value):
    assert search_keys({"email": value, "name": value, "first_name": value, "last_name": value}) == NOBODY


def test_each_key_is_cut_to_its_column():
    long = {"email": "A" * 999, "phone": "1" * 999, "zipcode": "6" * 999, "name": "B" * 999}

    assert search_keys(long) == SearchKeys(email="a" * 254, phone="1" * 32, zipcode="6" * 16, name="b" * 200)


def test_a_cut_leaves_no_space_at_the_end():
    assert search_keys({"name": "b" * 199 + " c"}).name == "b" * 199


def test_a_cut_is_made_after_lower_casing_which_can_lengthen():
    assert len(search_keys({"name": "İ" * 200}).name or "") == 200


@given(objects_with("email", "phone", "zipcode", "address", "name", "first_name", "last_name"))
def test_search_keys_of_any_json_are_none_or_fit_their_columns(raw):
    keys = search_keys(raw)

    for key, width in ((keys.email, 254), (keys.phone, 32), (keys.zipcode, 16), (keys.name, 200)):
        assert key is None or 0 < len(key) <= width


@given(objects_with("phone"))
def test_a_phone_is_searched_as_it_is_delivered(raw):
    delivered = normalize(raw).get("phone")

    assert search_keys(raw).phone == (delivered[:32] or None if isinstance(delivered, str) else None)
