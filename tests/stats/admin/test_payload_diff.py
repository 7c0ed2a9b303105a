"""The comparison of the forms of a payload. These tests need no database."""

import json
import time

import pytest

from leads.normalization import normalize
from stats.admin.payload_diff import (
    MAX_ROWS,
    SIGNS,
    compare,
    marked_lines,
    marks_for_customer,
    omitted_fields,
    origins,
    path_text,
)


def changes(before, after=None):
    found = compare(before, normalize(before) if after is None else after)
    return [(path_text(each.path), each.before, each.after, each.reason) for each in found.changes]


def marked(value, marks):
    """Return the lines that have a mark, without their indent."""
    return [(mark, line.strip()) for mark, line in marked_lines(value, marks) if mark]


# --- received and normalized -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"a": " x "}, ("a", " x ", "x", "whitespace trimmed")),
        ({"email": "E@X.de"}, ("email", "E@X.de", "e@x.de", "converted to lower case")),
        ({"email": " E@X.de"}, ("email", " E@X.de", "e@x.de", "whitespace trimmed, converted to lower case")),
        ({"phone": "0151 12345678"}, ("phone", "0151 12345678", "+4915112345678", "international format (E.164)")),
        ({"phone": 15112345678}, ("phone", 15112345678, "+4915112345678", "international format (E.164)")),
        ({"phone": "1-1-0"}, ("phone", "1-1-0", "110", "unknown numbering plan: only digits kept")),
        ({"phone": "none"}, ("phone", "none", "", "contains no digits")),
        ({"a": "TRUE"}, ("a", "TRUE", True, "text → true or false")),
        ({"a": {"b": [1, [" x"]]}}, ("a.b[1][0]", " x", "x", "whitespace trimmed")),
        ({"a b": {'"': " x"}}, ('"a b"."\\""', " x", "x", "whitespace trimmed")),
    ],
)
def test_changes_by_normalization_have_a_reason(before, change):
    assert changes(before) == [change]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({"a": 1}, {"a": True}, ("a", 1, True, "text → true or false")),
        ({"a": 1}, {"a": 1.0}, ("a", 1, 1.0, "changed")),
        ({"a": 0}, {"a": None}, ("a", 0, None, "changed")),
        ({"a": 1}, {}, ("a", 1, None, "removed")),
        ({}, {"a": 1}, ("a", None, 1, "added")),
        ({"a": [1]}, {"a": [1, 2]}, ("a", [1], [1, 2], "changed")),
        ({"a": {}}, {"a": []}, ("a", {}, [], "changed")),
        ([1], {"a": 1}, ("", [1], {"a": 1}, "changed")),
        ({"a": "x"}, {"a": "y"}, ("a", "x", "y", "changed")),
    ],
)
def test_other_changes_are_named(before, after, change):
    assert changes(before, after) == [change]


@pytest.mark.parametrize("value", [{}, {"a": [1, {"b": None}], "c": "x"}, [], None, "x", 1.5])
def test_equal_values_have_no_change_and_no_mark(value):
    found = compare(value, json.loads(json.dumps(value)))

    assert (found.changes, found.total) == ([], 0)
    assert marked(value, found.before) == marked(value, found.after) == []


def test_changed_lines_are_marked_on_both_sides():
    before = {"a": " x", "b": {"c": 1, "d": ["TRUE", "y"]}, "gone": {"x": 1}}
    after = {"new": 1, "b": {"d": [True, "y"], "c": 1}, "a": "x"}
    found = compare(before, after)

    assert marked(before, found.before) == [
        ("changed", '"a": " x",'),
        ("changed", '"TRUE",'),
        ("removed", '"gone": {'),
        ("removed", '"x": 1'),
        ("removed", "}"),
    ]
    assert marked(after, found.after) == [("added", '"new": 1,'), ("changed", "true,"), ("changed", '"a": "x"')]


def test_every_mark_has_its_own_sign():
    assert len({sign for sign, _meaning in SIGNS.values()}) == len(SIGNS)


# --- for the customer ------------------------------------------------------------------------------------------------

NORMALIZED = {"phone": "+49123456789", "zipcode": "66123", "solar_area": "50", "solar_owner": "Ja", "house": {"a": 1}}
CUSTOMER = {
    "phone": "+49123456789",
    "product": {"name": "solar"},
    "attributes": [{"name": "solar_area", "value": 50}, {"name": "solar_owner", "value": "Ja"}],
}


def test_the_customer_payload_is_marked():
    assert marked(CUSTOMER, marks_for_customer(NORMALIZED, CUSTOMER)) == [
        ("added", '"product": {'),
        ("added", '"name": "solar"'),
        ("added", "},"),
        ("moved", '"name": "solar_area",'),
        ("changed", '"value": 50'),
        ("moved", '"name": "solar_owner",'),
        ("moved", '"value": "Ja"'),
    ]


def test_every_value_has_an_origin():
    assert [(name, origin) for name, origin in origins(NORMALIZED, CUSTOMER)] == [
        ("phone", "field phone"),
        ("product", "setting CUSTOMER_PRODUCT_NAME"),
        ("solar_area", "field solar_area, text → number"),
        ("solar_owner", "field solar_owner"),
    ]


def test_omitted_fields_have_a_reason():
    normalized = NORMALIZED | {"solar_usage": 5, "solar_roof": None}
    mapped = {
        "attributes": ["solar_area"],
        "omitted": {"solar_usage": {"code": "not_text"}, "solar_roof": {"code": "null_value"}},
    }
    found, count = omitted_fields(normalized, CUSTOMER, mapped)

    assert found == [
        ("zipcode", "not in the mapping file"),
        ("house", "not in the mapping file"),
        ("solar_usage", "not text"),
        ("solar_roof", "null"),
    ]
    assert count == 4


@pytest.mark.parametrize("mapped", [None, [], "text"])
def test_the_reason_is_unknown_without_an_event(mapped):
    found, _count = omitted_fields({"a": 1}, {}, mapped)

    assert found == [("a", "reason not recorded")]


ODD = [None, [], "x", 5, {}, {"attributes": "x"}, {"attributes": [1, {}, {"name": 5}, {"name": "x"}]}, {"phone": []}]


@pytest.mark.parametrize("normalized", ODD)
@pytest.mark.parametrize("customer", ODD)
def test_payloads_of_any_shape_are_compared(normalized, customer):
    marks = marks_for_customer(normalized, customer)
    lines = marked_lines(customer, marks)

    assert json.loads("\n".join(line for _mark, line in lines)) == customer
    assert isinstance(origins(normalized, customer), list)
    assert omitted_fields(normalized, customer, {"omitted": 1})[1] >= 0


# --- size ------------------------------------------------------------------------------------------------------------

LARGE = [
    {f"key{number}": " TRUE" for number in range(20_000)},
    {"list": list(range(20_000))},
    {"list": [{f"k{key}": f" v{key}" for key in range(20)} for _ in range(1000)]},
    {"text": " " + "x" * 200_000},
]


@pytest.mark.parametrize("payload", LARGE)
def test_a_large_payload_is_compared_and_written_in_full(payload):
    normalized = normalize(payload)
    began = time.process_time()
    found = compare(payload, normalized)
    lines = marked_lines(payload, found.before)

    assert time.process_time() - began < 10, "each value is visited once; this takes 0.1 s"
    assert [line for _mark, line in lines] == json.dumps(payload, indent=2, ensure_ascii=False).split("\n")
    assert len(found.changes) == min(found.total, MAX_ROWS)
    assert found.total == sum(1 for mark, _line in lines if mark)


def test_long_lists_are_cut_and_counted():
    normalized = {f"key{number}": number for number in range(1000)}

    found, count = omitted_fields(normalized, {"attributes": []}, {"omitted": {}})

    assert (len(found), count) == (MAX_ROWS, 1000)


def test_deep_nesting_is_compared():
    before = " x"
    for _ in range(64):
        before = {"a": before}
    found = compare(before, normalize(before))

    assert [path_text(each.path) for each in found.changes] == [".".join("a" * 64)]
    assert len(marked_lines(before, found.before)) == 129
