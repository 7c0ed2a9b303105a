import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads.rules import RejectionReason, rejection_reason
from tests import payloads
from tests.json_strategies import JSON_VALUES, objects_with

ZIP = RejectionReason.ZIP_NOT_66XXX
OWNER = RejectionReason.NOT_HOMEOWNER

ABSENT = object()


def payload(zipcode="66123", house=None, **fields):
    fields = {"zipcode": zipcode, "house": {"is_owner": True} if house is None else house, **fields}
    return {key: value for key, value in fields.items() if value is not ABSENT}


@pytest.mark.parametrize("zipcode", ["66000", "66123", "66999"])
def test_a_homeowner_in_the_served_area_is_accepted(zipcode):
    assert rejection_reason(payload(zipcode)) is None


@pytest.mark.parametrize(
    "zipcode",
    [
        *("12345", "67000", "6612", "661234", "066123", "66abc", " 66123", "66123\n", "66١٢٣", "６６123"),
        *(66123, True, None, ["66123"], {"zip": "66123"}, ABSENT),
    ],
)
def test_every_other_zipcode_is_rejected(zipcode):
    assert rejection_reason(payload(zipcode)) is ZIP


@pytest.mark.parametrize("answer", [False, None, 1, 1.0, "true", "", [True], {"is_owner": True}])
def test_only_true_is_accepted_as_is_owner(answer):
    assert rejection_reason(payload(house={"is_owner": answer})) is OWNER


@pytest.mark.parametrize("house", [ABSENT, {}, True, "is_owner", ["is_owner"], [{"is_owner": True}]])
def test_a_house_without_an_owner_is_rejected(house):
    assert rejection_reason(payload(house=house, is_owner=True)) is OWNER


def test_a_house_that_is_null_is_rejected():
    assert rejection_reason({"zipcode": "66123", "house": None}) is OWNER


def test_the_zipcode_is_checked_before_the_owner():
    assert rejection_reason(payload("12345", house={"is_owner": False})) is ZIP
    assert rejection_reason({}) is ZIP


@pytest.mark.parametrize(
    ("name", "reason"),
    [("flat", None), ("full_solar", None), ("form_tool_export", OWNER), ("nested_address", ZIP)],
)
def test_payloads_of_real_sources_are_checked(name, reason):
    assert rejection_reason(payloads.load(name)) is reason


def test_the_stored_reasons_are_as_specified():
    assert list(RejectionReason) == ["ZIP_NOT_66XXX", "NOT_HOMEOWNER", "MISSING_REQUIRED_FIELD"]


ZIPCODES = st.from_regex(r"66\d{3}\n?", fullmatch=True) | JSON_VALUES
OWNERS = st.sampled_from([True, 1, "true", 1.0]) | JSON_VALUES


@given(ZIPCODES, objects_with("phone"))
def test_the_zipcode_rule_is_consistent(zipcode, other):
    served = isinstance(zipcode, str) and re.match(r"66[0-9][0-9][0-9]\Z", zipcode) is not None

    reason = rejection_reason(other | {"zipcode": zipcode, "house": {"is_owner": True}})

    assert reason is (None if served else ZIP)


@given(OWNERS, objects_with("email"))
def test_the_owner_rule_is_consistent(answer, other):
    reason = rejection_reason(other | {"zipcode": "66123", "house": {"is_owner": answer}})

    assert reason is (None if answer is True else OWNER)


@given(objects_with("zipcode", "house"))
def test_any_json_object_is_accepted_or_rejected(lead):
    assert rejection_reason(lead) in (None, ZIP, OWNER)
