"""How times and durations are formatted."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from leadgateway.time_format import span, timestamp

BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2026, 1, 21, 10, 30, tzinfo=UTC), "2026-01-21T10:30:00Z"),
        (datetime(2026, 1, 21, 10, 30, 0, 999_999, tzinfo=UTC), "2026-01-21T10:30:00Z"),
        (datetime(2026, 1, 21, 0, 30, tzinfo=BERLIN), "2026-01-20T23:30:00Z"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00:00:00Z"),
    ],
)
def test_a_time_is_shown_in_utc_with_whole_seconds(moment, shown):
    assert timestamp(moment) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (42, "42 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (3_659, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400, "1 day"),
        (2 * 86_400 + 4 * 3_600, "2 days 4 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, shown):
    assert span(timedelta(seconds=seconds)) == shown
