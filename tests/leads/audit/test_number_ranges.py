import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads.audit.number_ranges import in_ranges, numbers_in


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [([], ""), ([7], "7"), ([3, 1, 2], "1-3"), ([1, 2, 4, 9, 10, 11], "1-2, 4, 9-11"), ([5, 5], "5")],
)
def test_numbers_are_written_as_ranges_and_read_again(numbers, ranges):
    assert in_ranges(numbers) == ranges
    assert numbers_in(ranges) == set(numbers)


@given(st.sets(st.integers(1, 60) | st.integers(1, 2**31)))
def test_any_numbers_are_read_again(numbers):
    assert numbers_in(in_ranges(numbers)) == numbers
