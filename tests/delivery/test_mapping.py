import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from delivery.mapping import AttributeRule, MappingError, load_mapping, map_lead, parse_mapping
from leads.normalization import normalize
from tests import payloads
from tests.json_strategies import JSON_VALUES, objects_with

SHIPPED_FILE = Path(__file__).parents[2] / "config" / "customer_attribute_mapping.json"

PRODUCT = "solar_panel_installation"
PHONE = "+49123456789"

TEXT = {"attribute_type": "text", "is_numeric": False, "values": None}
NUMERIC = {"attribute_type": "text", "is_numeric": True, "values": None}
DROPDOWN = {"attribute_type": "dropdown", "is_numeric": False, "values": ["Mieten", "Kaufen"]}
RANGE = {"attribute_type": "range", "is_numeric": True, "values": None}
BOUNDED = {"attribute_type": "range", "is_numeric": True, "values": [10, 500]}

HUGE = 10**400  # a legal JSON number that no double holds


def mapping(**entries):
    return parse_mapping(json.dumps(entries).encode())


def mapped(entry, value):
    """Map a lead with one field `a` by one rule."""
    return map_lead({"phone": PHONE, "a": value}, mapping=mapping(a=entry), product_name=PRODUCT)


def problems(data):
    with pytest.raises(MappingError) as refused:
        parse_mapping(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(refused.value).splitlines()


# Reading the file


def test_an_entry_becomes_a_rule():
    read = mapping(b=BOUNDED, a=DROPDOWN, c=TEXT)

    assert read.rules == (
        AttributeRule("b", "range", True, (10, 500)),
        AttributeRule("a", "dropdown", False, ("Mieten", "Kaufen")),
        AttributeRule("c", "text", False, None),
    )


def test_the_hash_covers_the_bytes_of_the_file():
    data = b' {"a": ' + json.dumps(TEXT).encode() + b"}\n"

    assert parse_mapping(data).sha256 == hashlib.sha256(data).hexdigest()
    assert parse_mapping(data + b"\n").sha256 != parse_mapping(data).sha256


def test_a_byte_order_mark_and_a_mapping_without_attributes_are_allowed():
    assert parse_mapping(b"\xef\xbb\xbf" + json.dumps({"a": TEXT}).encode()).rules == mapping(a=TEXT).rules
    assert parse_mapping(b"{}").rules == ()


@pytest.mark.parametrize("values", [[0, 0], [-1.5, 2], [0, 1e9]])
def test_a_range_may_have_any_finite_bounds_in_order(values):
    assert mapping(a=RANGE | {"values": values}).rules[0].values == tuple(values)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"attribute_type": "number"}, 'attribute_type: expected text or dropdown or range, got "number"'),
        ({"attribute_type": ["text"]}, 'attribute_type: expected text or dropdown or range, got ["text"]'),
        ({"is_numeric": 1}, "is_numeric: expected true or false, got 1"),
        ({"values": ["Ja"]}, 'values: expected null, got ["Ja"]'),
        ({"Values": None}, "Values: unknown field, expected attribute_type, is_numeric, values"),
    ],
)
def test_a_wrong_field_is_named_with_its_key(change, problem):
    assert problems({"solar_owner": TEXT | change}) == [f"solar_owner: {problem}"]


@pytest.mark.parametrize(
    "values",
    [
        *(None, [], "Ja", ["Ja", 1], ["Ja", "Ja"]),
        *(["Ja", ""], ["Ja", " Nein"], ["True", "Ja"]),  # none of these can be in a normalized lead
    ],
)
def test_a_dropdown_needs_distinct_texts_that_a_lead_can_contain(values):
    [problem] = problems({"a": DROPDOWN | {"values": values}})

    assert problem.startswith("a: values: expected a list of distinct texts")
    assert problem.endswith(f"got {json.dumps(values)}")


@pytest.mark.parametrize("values", [[5], [500, 10], ["1", "2"], [None, 5], [False, True], {"min": 1}, [0, HUGE]])
def test_a_range_needs_null_or_two_numbers_in_order(values):
    [problem] = problems({"solar_area": RANGE | {"values": values}})

    assert problem.startswith("solar_area: values: expected null or [min, max] with min <= max, got ")
    assert problem.endswith(json.dumps(values)[:80] + ("..." if HUGE in values else ""))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number):
    entry = json.dumps(RANGE | {"values": [0, 1]}).replace("[0, 1]", f"[0, {number}]")

    [problem] = problems(f'{{"a": {entry}}}'.encode())

    assert problem.startswith("a: values: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("null", "expected an object of attributes, got null"),
        ("[]", "expected an object of attributes, got []"),
        ('{"a": null}', "a: expected an object, got null"),
        ('{"a": ["text"]}', 'a: expected an object, got ["text"]'),
        ('{" ": RULE}', " : expected a name that is not blank"),
        ('{"a": RULE, "b": RULE, "a": RULE}', "a: given more than once"),
        (
            '{"a": {"values": [], "attribute_type": "text", "is_numeric": true, "values": null}}',
            "a: values: given more than once",
        ),
    ],
)
def test_the_file_is_an_object_of_objects_without_blank_or_repeated_names(text, problem):
    assert problems(text.replace("RULE", json.dumps(TEXT)).encode()) == [problem]


def test_every_problem_is_listed_at_once():
    wrong = {
        "a": {"attribute_type": "text", "is_numeric": "no", "values": [1], "label": "A"},
        "b": None,
        "c": TEXT,
        "d": DROPDOWN | {"values": None},
    }
    twice = json.dumps(wrong)[:-1] + ', "b": {}}'

    listed = problems(twice.encode())

    assert [problem.partition(" expected")[0] for problem in listed] == [
        *("b: given more than once", "a: label: unknown field,", "a: is_numeric:", "a: values:", "b:", "d: values:"),
        *("b: attribute_type: missing", "b: is_numeric: missing", "b: values: missing"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}x", '{"ä": 1}'.encode("latin-1"), "{}".encode("utf-16")),
        *(b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_invalid_json_raises_a_mapping_error(data):
    assert len(problems(data)) == 1


NEARLY_RIGHT = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.fixed_dictionaries(
        {
            "attribute_type": st.sampled_from(["text", "dropdown", "range"]) | JSON_VALUES,
            "is_numeric": st.booleans() | JSON_VALUES,
            "values": st.none() | st.lists(st.text("ab ", max_size=2)) | st.lists(st.integers()) | JSON_VALUES,
        }
    ),
    max_size=2,
)


@given(st.binary(max_size=40) | (NEARLY_RIGHT | JSON_VALUES).map(lambda document: json.dumps(document).encode()))
def test_any_bytes_give_a_mapping_or_a_mapping_error(data):
    try:
        read = parse_mapping(data)
    except MappingError:
        return

    written = json.loads(data.decode("utf-8-sig"))
    assert [rule.name for rule in read.rules] == list(written)
    assert [rule.attribute_type for rule in read.rules] == [entry["attribute_type"] for entry in written.values()]
    assert [rule.values and list(rule.values) for rule in read.rules] == [entry["values"] for entry in written.values()]


def test_the_error_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(MappingError, match=r"nowhere\.json: cannot be read: No such file"):
        load_mapping(tmp_path / "nowhere.json")


def test_the_error_names_the_file_and_its_problems(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({"a": 1, "b": 2}))

    with pytest.raises(MappingError) as refused:
        load_mapping(path)

    assert str(path) in str(refused.value)
    assert "a: expected an object, got 1" in str(refused.value)
    assert "b: expected an object, got 2" in str(refused.value)


def test_the_default_file_has_the_whole_solar_product():
    rules = {rule.name: rule for rule in load_mapping(SHIPPED_FILE).rules}

    assert {name: len(rule.values) if rule.values else None for name, rule in rules.items()} == {
        "solar_energy_consumption": None,
        "solar_monthly_electricity_bill": None,
        "solar_offer_type": 3,
        "solar_owner": 3,
        "solar_power_storage": 3,
        "solar_property_type": 10,
        "solar_roof_age": 4,
        "solar_roof_condition": 6,
        "solar_roof_material": 10,
        "solar_roof_type": 11,
        "solar_south_location": 10,
        "solar_usage": 3,
        "solar_area": None,
    }
    assert list(rules)[-1] == "solar_area"
    assert rules["solar_energy_consumption"] == AttributeRule("solar_energy_consumption", "text", True, None)
    assert rules["solar_area"] == AttributeRule("solar_area", "range", True, None)
    assert rules["solar_owner"] == AttributeRule("solar_owner", "dropdown", False, ("Ja", "Nein", "In Auftrag"))


# Values


def kept(entry, value):
    result = mapped(entry, value)
    assert result.omitted == {}
    [attribute] = result.payload["attributes"]
    assert list(attribute) == ["name", "value"]
    assert attribute["name"] == "a"
    return attribute["value"]


def omitted(entry, value):
    result = mapped(entry, value)
    assert result.payload == {"phone": PHONE, "product": {"name": PRODUCT}, "attributes": []}
    assert result.missing == ()
    assert list(result.omitted) == ["a"]
    return result.omitted["a"]


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *[(TEXT, value) for value in ("frei", "5", "\ud800")],
        *[(NUMERIC, value) for value in (0, 12.5, "+5", "-0.5", "1.5E-3", "007", "9" * 64)],
        *[(DROPDOWN, value) for value in ("Mieten", "Kaufen")],
        *[(RANGE, value) for value in (60.5, -1, 10**20)],
        *[(BOUNDED, value) for value in (10, 500.0)],
    ],
)
def test_a_valid_value_is_sent_unchanged(entry, value):
    sent = kept(entry, value)

    assert sent == value
    assert type(sent) is type(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("-60", -60), ("060", 60), ("60.0", 60.0), ("6e1", 60.0), ("12345678901234567891", 12345678901234567891)],
)
def test_a_range_sends_a_string_as_a_number(text, number):
    sent = kept(RANGE, text)

    assert sent == number
    assert type(sent) is type(number)


NOT_NUMBERS = [
    *("Mustermann", "60 m²", "1_000", "1,5", ".5", "5.", "0x10", "1e", "--1", "60\n", " 60"),
    *("nan", "-Infinity", "1e400", "٦٠", "6²", "9" * 65, "1e" + "0" * 70 + "1"),
    *(True, [60], {"value": 60}, HUGE, -HUGE, math.inf, math.nan),
]


@pytest.mark.parametrize("entry", [NUMERIC, BOUNDED])
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_value_that_is_not_a_finite_number_is_omitted(entry, value):
    assert omitted(entry, value) == {"code": "not_a_number"}


@pytest.mark.parametrize(
    ("entry", "values", "reason"),
    [
        (TEXT, [5, True, ["frei"], {}], {"code": "not_text"}),
        (DROPDOWN, ["kaufen", "Mustermann", "Kauf", 1, True, ["Kaufen"], {"Kaufen": 1}], {"code": "not_allowed"}),
        (BOUNDED, [9, 9.99, "9", "-1e9"], {"code": "below_minimum", "bound": 10}),
        (BOUNDED, [501, 500.01, "501", 10**300], {"code": "above_maximum", "bound": 500}),
    ],
)
def test_an_invalid_value_is_omitted_with_a_reason_that_does_not_quote_it(entry, values, reason):
    assert [omitted(entry, value) for value in values] == [reason] * len(values)


@pytest.mark.parametrize("entry", [TEXT, NUMERIC, DROPDOWN, RANGE])
@pytest.mark.parametrize(("value", "code"), [(None, "null_value"), ("", "empty"), (" \n", "empty")])
def test_a_null_or_empty_value_is_omitted_for_every_type(entry, value, code):
    assert omitted(entry, value) == {"code": code}


# Whole leads


def test_all_attributes_of_a_full_lead_are_sent_in_the_order_of_the_file():
    lead = normalize(payloads.load("full_solar"))

    result = map_lead(lead, mapping=load_mapping(SHIPPED_FILE), product_name=PRODUCT)

    assert result.payload["phone"] == "+4915112345678"
    assert {attribute["name"]: attribute["value"] for attribute in result.payload["attributes"]} == {
        name: value for name, value in lead.items() if name.startswith("solar_")
    } | {"solar_area": 60}
    assert [attribute["name"] for attribute in result.payload["attributes"]][-1] == "solar_area"
    assert result.omitted == {}
    assert result.missing == ()


def test_the_specifications_lead_gives_the_specified_payload():
    result = map_lead(normalize(payloads.load("flat")), mapping=load_mapping(SHIPPED_FILE), product_name=f" {PRODUCT} ")

    assert result.payload == {
        "phone": PHONE,
        "product": {"name": PRODUCT},
        "attributes": [
            {"name": "solar_energy_consumption", "value": "5000"},
            {"name": "solar_offer_type", "value": "Kaufen"},
        ],
    }


def test_an_invalid_attribute_does_not_affect_the_others_which_are_in_the_order_of_the_file():
    lead = {"phone": PHONE, "a": None, "b": "frei", "c": "viel", "e": "x"}

    result = map_lead(lead, mapping=mapping(e=TEXT, a=TEXT, b=TEXT, c=RANGE, d=TEXT), product_name=PRODUCT)

    assert result.payload["attributes"] == [{"name": "e", "value": "x"}, {"name": "b", "value": "frei"}]
    assert result.omitted == {"a": {"code": "null_value"}, "c": {"code": "not_a_number"}}


@pytest.mark.parametrize("phone", [None, " ", True, 151.5, [PHONE], {"mobile": PHONE}])
@pytest.mark.parametrize(("product_name", "missing"), [(PRODUCT, ("phone",)), (" \n", ("phone", "product.name"))])
def test_a_phone_that_is_not_text_and_an_empty_product_name_are_missing(phone, product_name, missing):
    result = map_lead({"phone": phone}, mapping=mapping(), product_name=product_name)

    assert result.missing == missing
    assert result.payload == {"phone": "", "product": {"name": product_name.strip()}, "attributes": []}


NO_PHONE = (
    st.text("+ ()/-", max_size=5)
    | st.sampled_from(["true", "keine"])
    | JSON_VALUES.filter(lambda value: not isinstance(value, str | int) or isinstance(value, bool))
)


@given(objects_with("a"), NO_PHONE, st.booleans(), st.sampled_from(["", " ", PRODUCT]))
def test_missing_required_fields_are_always_reported(lead, phone, present, product_name):
    lead = normalize(
        {key: value for key, value in lead.items() if key != "phone"} | ({"phone": phone} if present else {})
    )

    result = map_lead(lead, mapping=mapping(a=TEXT), product_name=product_name)

    assert result.missing == (("phone",) if product_name == PRODUCT else ("phone", "product.name"))


RULES = {"text": TEXT, "numeric": NUMERIC, "choice": DROPDOWN, "range": RANGE, "bounded": BOUNDED}
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
WITHIN = st.integers(10, 500) | st.floats(10, 500)
VALID = {
    "text": st.text(min_size=1).filter(str.strip),
    "numeric": st.integers(-(10**40), 10**40) | DOUBLES | st.integers(-(10**40), 10**40).map(str) | DOUBLES.map(repr),
    "choice": st.sampled_from(DROPDOWN["values"]),
    "range": st.integers(-(10**40), 10**40) | DOUBLES | DOUBLES.map(repr),
    "bounded": WITHIN | WITHIN.map(str),
}
NO_NUMBER = st.none() | st.booleans() | st.text("abc_ ,²٣", max_size=9) | st.lists(st.integers(), max_size=2)
INVALID = {
    "text": st.none() | st.booleans() | DOUBLES | st.lists(st.text()) | st.just(""),
    "numeric": NO_NUMBER,
    "choice": JSON_VALUES.filter(lambda value: value not in DROPDOWN["values"]),
    "range": NO_NUMBER,
    "bounded": NO_NUMBER | st.integers(max_value=9) | st.floats(500, 1e9, exclude_min=True).map(repr),
}


@given(st.fixed_dictionaries({}, optional=VALID), st.fixed_dictionaries({}, optional=INVALID), JSON_VALUES)
@example({"range": 2**53 + 1}, {}, None)  # more digits than a double keeps
def test_invalid_attributes_are_always_omitted_and_valid_ones_always_sent(valid, invalid, stranger):
    lead = {"phone": PHONE, "stranger": stranger} | invalid | valid

    result = map_lead(lead, mapping=mapping(**RULES), product_name=PRODUCT)

    sent = {attribute["name"]: attribute["value"] for attribute in result.payload["attributes"]}
    assert list(sent) == [name for name in RULES if name in valid]
    assert set(result.omitted) == set(invalid) - set(valid)
    assert result.missing == ()
    for name, value in valid.items():
        is_written_number = name in ("range", "bounded") and isinstance(value, str)
        assert sent[name] == (float(value) if is_written_number else value)


@given(objects_with("phone", *RULES))
@example({"phone": "x", "range": HUGE, "bounded": -HUGE, "numeric": HUGE})
def test_any_lead_can_be_mapped_to_plain_json(lead):
    result = map_lead(normalize(lead), mapping=mapping(**RULES), product_name=PRODUCT)

    json.dumps(result.payload, allow_nan=False)
    sent = [attribute["name"] for attribute in result.payload["attributes"]]
    assert sorted([*sent, *result.omitted]) == sorted(set(RULES) & set(lead))


BOUNDS = st.tuples(st.integers(-100, 100) | st.floats(-100, 100), st.integers(-100, 100) | st.floats(-100, 100))


@given(BOUNDS, st.integers(-200, 200) | st.floats(-200, 200), st.booleans())
def test_a_range_accepts_exactly_the_numbers_inside(bounds, number, is_written):
    low, high = sorted(bounds)
    result = mapped(RANGE | {"values": [low, high]}, str(number) if is_written else number)

    if low <= number <= high:
        assert result.payload["attributes"] == [{"name": "a", "value": number}]
    else:
        assert (result.payload["attributes"], set(result.omitted)) == ([], {"a"})


@given(JSON_VALUES, JSON_VALUES)
def test_only_phone_product_and_mapped_attributes_are_sent(value, stranger):
    lead = normalize({"phone": PHONE, "a": value, "b": stranger, "c": {"a": stranger}})

    result = map_lead(lead, mapping=mapping(a=TEXT), product_name=PRODUCT)

    attributes = [{"name": "a", "value": lead["a"]}] if "a" not in result.omitted else []
    assert result.payload == {"phone": PHONE, "product": {"name": PRODUCT}, "attributes": attributes}
